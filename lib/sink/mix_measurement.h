// One condition of over-mixing, run and measured.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/mix.h"
#include "plumb/run.h"
#include "sink/p0_context.h"

namespace plumb {

/// Positions computed per call of `run`.
constexpr std::int64_t mix_positions_at_once = 2048;

/// Of each sequence.
std::vector<std::int64_t> token_counts(const Tokens& tokens);

/// Sequences [first, first + count).
Tokens tokens_between(const Tokens& tokens, std::int64_t first, std::int64_t count);

/// What `measure_reach` takes of a sequence of T: passes forward, one of them for each graph, and a
/// pass back for each probe.
std::int64_t reach_evaluations(const Model& model, std::int64_t T, std::int64_t probes);

/// A condition before it is measured. `edits` are those for a run on sequences [first, first +
/// count) of so many positions.
struct MixSetting {
  std::string name = {};
  Inputs inputs = {};
  bool shifted = false;  // one position shorter than the plain inputs: they begin with a BOS
  std::function<std::vector<Intervention>(std::int64_t first, std::int64_t count, std::int64_t T)>
      edits = {};
  int first_edited = 0;  // blocks before it are as they are in the plain runs
};

/// Sums over sequences, in float64, and what is kept of each sequence.
class MixMeasurement {
 public:
  /// `plain`: measured on the same inputs without edits, for the blocks before the first edited
  /// one.
  MixMeasurement(const Model& model, const MixSetting& setting, const MixOptions& options,
                 std::int64_t position, const std::vector<std::int64_t>& replacements,
                 const at::Tensor& directions, const MixMeasurement* plain = nullptr);

  /// Before `run_all`: what the runs shall keep for others, streams that enter these blocks and
  /// what components write on average over later positions.
  void keep_for_others(const std::set<int>& blocks, const std::set<Component>& components);
  /// What such a component writes, [B, 1, d].
  at::Tensor ordinary_write(Component component) const;

  /// Returns the evaluations.
  std::int64_t run_all(const std::function<void(double)>& tell);

  MixState state() const;

  const std::vector<double>& relative_spreads() const { return relative_spreads_; }
  const std::vector<double>& losses() const { return losses_; }

 private:
  Site entered(int l) const;

  Plan plan(const std::vector<Intervention>& edits, bool everything, std::size_t chunk) const;

  void keep(const Run& plain, const Run& moved, std::int64_t first, std::int64_t count);

  // Of one sequence, its valid positions; it is the `index`-th of all.
  void keep_streams(const Run& plain, const Run& moved, std::int64_t b, std::int64_t n,
                    std::size_t index);

  const Model& model_;
  const MixSetting& setting_;
  const MixOptions& options_;
  const int layers_;
  const std::int64_t position_;
  const std::vector<std::int64_t>& replacements_;
  const at::Tensor& directions_;
  const std::vector<std::int64_t> lengths_;
  const MixMeasurement* plain_;
  std::set<int> blocks_;
  std::set<Component> components_;
  // By block, of each chunk: streams [b, T, d] of the run and of that with another token.
  std::map<int, std::vector<std::pair<at::Tensor, at::Tensor>>> streams_;
  std::map<Component, std::vector<at::Tensor>> writes_;
  std::vector<at::Tensor> sink_;   // chunks [b, L, H]
  std::vector<at::Tensor> rival_;  // chunks [b, L]
  std::vector<at::Tensor> entropy_;
  std::vector<at::Tensor> drain_;
  std::vector<at::Tensor> honor_;
  std::vector<at::Tensor> factors_;
  std::vector<at::Tensor> collapses_;  // sequences [L + 1, 4]
  std::vector<at::Tensor> energies_;
  std::vector<at::Tensor> changes_;  // sequences [L + 1, T]
  std::vector<at::Tensor> relatives_;
  std::vector<double> spreads_;
  std::vector<double> relative_spreads_;
  std::vector<double> losses_;
};

}  // namespace plumb
