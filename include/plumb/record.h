// Activations of a model, streamed to an archive.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/model.h"
#include "plumb/plan.h"
#include "plumb/progress.h"
#include "plumb/run_info.h"
#include "plumb/site.h"

namespace plumb {

struct RecordOptions {
  std::vector<SlicedSite> sites = {};  ///< each once
  at::ScalarType store = at::kFloat;   ///< kHalf, kFloat or kDouble
  /// Sequences that are run and written at a time, as `run_in_parts` takes them; 0 = as many as
  /// make up to 16,384 positions and 256 MB, or an eighth of the model's `memory`. No value depends
  /// on it.
  std::int64_t sequences = 0;
};

/// One dataset of a recording.
struct RecordedSite {
  SlicedSite site = {};
  std::string dataset = {};              ///< "/activations/L3.z"
  std::vector<std::string> axes = {};    ///< "batch", "position", ...
  std::vector<std::int64_t> shape = {};  ///< of all sequences
};

struct Recording {
  RecordOptions options = {};
  std::vector<RecordedSite> sites = {};
  std::int64_t sequences = 0;
  std::int64_t evaluations = 0;  ///< token-layer evaluations
  std::int64_t bytes = 0;        ///< of the values written
};

/// What `record` runs: no block after the last that is asked for.
Plan record_plan(const Model& model, const std::vector<SlicedSite>& sites);

/// Sequences that `record` runs and writes at a time.
std::int64_t record_part(const Model& model, const Inputs& inputs, const RecordOptions& options);

/// Runs the model over the inputs and writes to `file`, an archive: /provenance, /inputs, and
/// /activations/SITE for each site, part by part, so that no more than a part is in memory. Sets
/// the end of `run`. Every value is that of one run over all inputs, rounded to `store`; entries of
/// padded positions hold what the model made of the padding.
/// When `progress` throws `interrupted`, the parts written so far become the file (attribute
/// `complete` of /activations then is 0) and an error says how many sequences it holds; after any
/// other failure, and a kill, an earlier file stays. Throws bad_argument for a site that is not
/// there or asked for twice, too_large where the disk has no room or a value overflows float16.
Recording record(const Model& model, const Inputs& inputs, const RecordOptions& options,
                 const std::filesystem::path& file, RunInfo& run, const Progress& progress = {});

}  // namespace plumb
