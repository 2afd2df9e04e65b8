// An effect against its control.
#pragma once

#include "core/random.h"
#include "sink/p0_context.h"

namespace plumb {

/// From the shares of both by sequence, [B].
Contrast contrast(const at::Tensor& effect, const at::Tensor& by_control, const P0Options& options);

/// From two edits' effects on position 0's sink: shares of its excess that are removed, over the
/// wave's layers that both were read in.
Contrast contrast(const P0Context& context, std::size_t wave, const Effect& effect,
                  const Effect& by_control);

/// A random vector for each row, [.., width], as long as the row.
at::Tensor random_of_size(const at::Tensor& rows, Random& random);

/// What L4 rests on: of the kinds of replacement of one set, the one for which most is true.
struct Necessity {
  const Effect* effect = nullptr;
  const Contrast* contrast = nullptr;
  double elsewhere = 0;  ///< share that the same edit at the control position removes
  bool holds = false;
};
Necessity necessity_of(const P0Options& options, const WaveReport& report, const std::string& set);

/// Runs the controls of the first set, or, where a random change of its size does too much of what
/// the set does, of the next: the same replacement at another position, and random changes of the
/// sizes of the replacements at position 0. Fills .controls (those of the set that is returned
/// first) and .contrasts. A few sets are tried at most; if none exceeds its control, the first is
/// returned.
std::vector<Component> choose_by_controls(P0Context& context, std::size_t wave,
                                          const std::vector<std::vector<Component>>& sets,
                                          WaveReport& report);

}  // namespace plumb
