// The sink along training: the same measurements of every checkpoint of a directory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/model.h"
#include "plumb/progress.h"
#include "plumb/sink.h"

namespace plumb {

struct TraceOptions {
  SinkOptions sink = {};
  double onset_rate = 0.5;  ///< share of a layer's heads that must be sink heads for an onset
};
void check(const TraceOptions& options);

/// What is measured of a checkpoint, in this order. L layers, H heads; NaN where there is nothing
/// to measure.
///   loss             mean nats per predicted token of the inputs
///   sink_max         mean sink of the layer that has most
///   sink_rate        share of all heads that are sink heads (Sink[0:], arXiv:2603.06591 Eq. 2)
///   front_depth      sum over layers of (1 - rate) / L
///   onset            first layer of the first wave
///   onset_rate       first layer whose rate reaches `TraceOptions::onset_rate`
///   concentration    share.b0 + share.b1
///   share.input, share.b0 ...   share of the embedding and of each block before the strongest wave
///                    in the projection of position 0's state, where that wave begins, on its
///                    direction u = mean over sequences, normalised; they sum to 1
///   sink.L0 ...      mean sink of each layer;    rate.L0 ...   its share of sink heads
///   sink.L0.h0 ...   mean sink of each head
///   norm.0, norm.0.5 ...        norm of position 0 over the median position's, by half layer
///   cosine.0 ...     mean cosine of position 0's state to its mean;   separability.0 ...
std::vector<std::string> trace_columns(const ModelConfig& config);

/// The values of a model. Throws as `survey_sink` does.
std::vector<double> trace_values(const Model& model, const Inputs& inputs,
                                 const TraceOptions& options = {});

/// A checkpoint of a directory.
struct TraceEntry {
  std::int64_t step = 0;  ///< the last number in its name
  std::string name = {};
  std::string stamp = {};  ///< sizes and times of its weight files: tells whether it changed
  std::filesystem::path path = {};
  bool operator==(const TraceEntry&) const = default;
};

/// Entries of the directory that hold a model and a number in their name, by step. Throws bad_file
/// where there is none, or two have the same step.
std::vector<TraceEntry> find_checkpoints(const std::filesystem::path& directory);

struct Trace {
  TraceOptions options = {};
  std::string inputs_sha256 = {};
  std::vector<std::string> columns = {};
  std::vector<TraceEntry> entries = {};          ///< by step
  std::vector<std::vector<double>> values = {};  ///< [entry][column]
  std::int64_t measured = 0;                     ///< entries that this call measured
  /// One column along the entries. Throws bad_argument, listing the columns.
  std::vector<double> series(const std::string& column) const;
};

/// Measures every checkpoint that `known` does not hold with the same stamp, inputs and options.
/// `keep` is called after each of them with what there is by then.
Trace trace_checkpoints(const std::vector<TraceEntry>& entries, const Inputs& inputs,
                        const TraceOptions& options, const LoadOptions& load,
                        const std::optional<Trace>& known = {},
                        const std::function<void(const Trace&)>& keep = {},
                        const Progress& progress = {});

/// A step in a series: two means instead of one.
struct ChangePoint {
  bool found = false;  ///< the permutation test says p <= 0.05
  double p = 1.0;      ///< share of shuffled series that a step fits as well
  double step = 0;     ///< halfway between the checkpoints it lies between
  double low = 0;     ///< 95 % by likelihood ratio, Gaussian noise: from the last checkpoint before
  double high = 0;    ///< the earliest place to the first one after the latest
  double before = 0;  ///< means of the two parts
  double after = 0;
};
/// The best single step of the series; entries that are not finite are left out. Not found among
/// fewer than 5.
ChangePoint find_change(const std::vector<std::int64_t>& steps, const std::vector<double>& values,
                        std::uint64_t seed = 0);

struct TraceSummary {
  std::optional<std::int64_t> first_wave = {};   ///< first step with a wave
  std::optional<std::int64_t> first_onset = {};  ///< first with a layer of `onset_rate` sink heads
  ChangePoint sink = {};                         ///< of sink_max
  ChangePoint loss = {};
  double lag =
      0;  ///< sink.step - loss.step: positive = the sink comes later; NaN unless both found
  double lag_low = 0;  ///< the extremes that the two intervals allow
  double lag_high = 0;
};
TraceSummary summarise(const Trace& trace, std::uint64_t seed = 0);

}  // namespace plumb
