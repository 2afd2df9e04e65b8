// Single components knocked out at position 0. For a late wave that is a screening: it is read at
// the wave's onset alone, and first on some of the sequences.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "sink/p0_experiments.h"

namespace plumb {

namespace {

constexpr std::array knockout_kinds{Ablation::zero, Ablation::mean, Ablation::resample};
constexpr int layers_read = 1;  // of a late wave

// A quarter of the sequences, but as many as an interval needs to mean something.
constexpr std::int64_t fewest_screened = 8;
std::int64_t sequences_screened(std::int64_t all) {
  return std::min(all, std::max(fewest_screened, all / 4));
}

// Whether an outcome on the first few sequences shows that the component matters neither to the
// wave's sink nor to its norm: the intervals of both changes, sequence by sequence, keep below
// `knockout_matters`.
bool clearly_idle(const P0Context& context, std::size_t w, const Outcome& outcome) {
  const auto onset = static_cast<std::size_t>(context.waves[w].onset);
  const auto column = [](const at::Tensor& values) { return values.select(1, 0).to(at::kDouble); };
  const at::Tensor sink = column(outcome.received[onset]);
  const at::Tensor norm = column(outcome.onset_norm[w]);
  const at::Tensor clean_sink = column(context.clean.received[onset]);
  const at::Tensor clean_norm = column(context.clean.onset_norm[w]).narrow(0, 0, norm.size(0));
  const double excess = std::max(clean_sink.mean().item<double>() - context.null_at(0), 1e-9);
  const auto seed = context.options.seed;
  const Estimate lost = bootstrap((clean_sink.narrow(0, 0, sink.size(0)) - sink) / excess, seed);
  const Estimate change = bootstrap(norm / clean_norm - 1.0, seed);
  return lost.high < knockout_matters && change.high < knockout_matters &&
         change.low > -knockout_matters;
}

}  // namespace

void knock_out_components(P0Context& context, std::vector<WaveReport>& reports) {
  int until = 0;
  for (std::size_t w = 0; w < context.waves.size(); ++w) {
    const Wave& wave = context.waves[w];
    const int last = w == 0 ? wave.last + 1 : std::min(wave.last + 1, wave.onset + layers_read);
    until = std::max(until, last);
  }
  const std::int64_t all = context.inputs.tokens.batch();
  const std::int64_t few = sequences_screened(all);
  const auto components = components_of_blocks(0, context.waves.back().onset);
  std::size_t done = 0;
  for (const auto component : components) {
    for (const auto kind : knockout_kinds) {
      context.tell("knocking out components at position 0",
                   static_cast<double>(done++) /
                       static_cast<double>(components.size() * knockout_kinds.size()));
      std::vector<std::size_t> behind;  // waves whose onset lies behind it
      for (std::size_t w = 0; w < reports.size(); ++w) {
        if (component.layer < context.waves[w].onset) behind.push_back(w);
      }
      Outcome outcome;
      bool enough = few < all && behind.front() > 0;
      if (enough) {
        outcome = context.intervene(context.replace({component}, kind, few), until, few);
        enough = std::ranges::all_of(
            behind, [&](std::size_t w) { return clearly_idle(context, w, outcome); });
      }
      if (!enough) outcome = context.intervene(context.replace({component}, kind), until);
      for (const auto w : behind) {
        reports[w].knockouts.push_back(
            context.read(w, outcome, 0, to_string(component), to_string(kind), "P0"));
      }
    }
  }
}

}  // namespace plumb
