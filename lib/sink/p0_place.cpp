// Position 0 as a place: what the position ids, or the rows of a position table, have to do with
// it.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "sink/p0_experiments.h"
#include "sink/reductions.h"

namespace plumb {

namespace {

constexpr std::int64_t shift = 100;  // identity U5 is tested at this shift
constexpr std::int64_t shift_sequences = 4;

}  // namespace

// Read up to the last onset.
double shifted_sink_change(P0Context& context) {
  const Inputs few = head(context.inputs, shift_sequences, context.inputs.length());
  Plan plan{.logits = Logits::none};
  plan.until = std::min(context.layers(), context.waves.back().onset + 2);
  for (int layer = 0; layer < *plan.until; ++layer) {
    plan.record.push_back(
        {Site{Part::pattern, layer}, "received", received_by_head(context.options.sink.queries)});
  }
  Tokens moved = few.tokens;
  moved.positions.resize(static_cast<std::size_t>(few.length()));
  std::iota(moved.positions.begin(), moved.positions.end(), shift);
  const Run here = plumb::run(context.model, few.tokens, plan);
  const Run there = plumb::run(context.model, moved, plan);
  context.evaluations += here.evaluations + there.evaluations;
  double largest = 0.0;
  for (const auto& record : plan.record) {
    const at::Tensor change = here.cache.at(record.site, "received").mean(0) -
                              there.cache.at(record.site, "received").mean(0);
    largest = std::max(largest, change.select(-1, 0).abs().max().item<double>());
  }
  return largest;
}

double sink_following_the_row(P0Context& context, std::size_t w) {
  const Wave& wave = context.waves[w];
  Tokens swapped = context.inputs.tokens;
  swapped.positions.resize(static_cast<std::size_t>(context.inputs.length()));
  std::iota(swapped.positions.begin(), swapped.positions.end(), 0);
  std::swap(swapped.positions[0],
            swapped.positions[static_cast<std::size_t>(context.control_position())]);
  Plan plan{.logits = Logits::none};
  plan.until = wave.last + 1;
  for (int layer = wave.onset; layer <= wave.last; ++layer) {
    plan.record.push_back(
        {Site{Part::pattern, layer}, "received", received(context.options.sink.queries)});
  }
  const Run run = plumb::run(context.model, swapped, plan);
  context.evaluations += run.evaluations;
  double left = 0.0;
  double before = 0.0;
  for (int layer = wave.onset; layer <= wave.last; ++layer) {
    left += run.cache.at({Part::pattern, layer}, "received").select(1, 0).mean().item<double>();
    before +=
        context.clean.received[static_cast<std::size_t>(layer)].select(1, 0).mean().item<double>();
  }
  const double null = context.null_at(0) * (wave.last - wave.onset + 1);
  return (before - left) / std::max(before - null, 1e-9);
}

}  // namespace plumb
