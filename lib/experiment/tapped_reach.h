// Which sites of a tapped model its edges are read by.
#pragma once

#include <optional>
#include <vector>

#include "plumb/attribute.h"
#include "plumb/tapped.h"

namespace plumb {

struct TappedBlock {
  enum class Heads {
    none,
    written,  ///< by head_out
    mixed,    ///< by z, which attn_out is linear in
  } heads = Heads::none;
  bool gated = false;
  std::optional<Site> mlp_reads =
      {};  ///< of a block with an MLP: where the stream it reads is held
};

struct TappedReach {
  Site input = {};
  std::vector<TappedBlock> blocks = {};  ///< those that the metric depends on
  /// The stream that is read in the end: before the final norm, or where the metric reads the
  /// stream of a block itself. Nothing where it reads what a component makes of it.
  std::optional<Site> read_out = {};
  std::int64_t seen = 0;  ///< senders that have written by then
};

/// Runs the model on the first pair to see what it taps. Throws bad_argument where something is
/// missing, naming it.
TappedReach reach_of(const TappedModel& model, const Pairs& pairs, const Metric& metric,
                     const EdgeOptions& options);

}  // namespace plumb
