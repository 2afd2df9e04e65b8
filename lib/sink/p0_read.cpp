// Reading the outcome of an intervention: how much of a sink is left, and where it went.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "sink/p0_context.h"

namespace plumb {

namespace {

// Columns near the end are seen by few queries, and a mean over few is not a sink.
constexpr std::int64_t fewest_queries = 16;

constexpr double kept_below = 0.2;  // share of the excess removed
constexpr double removed_from = 0.8;
constexpr double moved_share = 0.5;  // share of sequences in which a new position spikes
constexpr double inherited = 0.5;  // share of the excess that another column gains, without a spike

// [B, T] with the columns set to a low value that are not "another column".
at::Tensor others_only(const at::Tensor& values, std::int64_t position, std::int64_t last) {
  at::Tensor result = values.narrow(1, 0, last).clone();
  if (position < last) result.select(1, position).fill_(-std::numeric_limits<double>::infinity());
  return result;
}

// What a column of the clean run has in all sequences beyond what it has in the first few; 0 for
// all of them, to the bit.
double beyond(const at::Tensor& clean, std::int64_t column, std::int64_t sequences) {
  if (sequences == clean.size(0)) return 0.0;
  const at::Tensor values = clean.select(1, column).to(at::kDouble);
  return (values.mean() - values.narrow(0, 0, sequences).mean()).item<double>();
}

std::int64_t most_frequent(const at::Tensor& positions) {
  std::map<std::int64_t, int> count;
  for (std::int64_t i = 0; i < positions.size(0); ++i) ++count[positions[i].item<std::int64_t>()];
  return std::ranges::max_element(count, {}, [](const auto& entry) { return entry.second; })->first;
}

}  // namespace

double P0Context::p0_sink(std::size_t w, int last) const {
  double sum = 0.0;
  int counted = 0;
  for (int layer = waves[w].onset; layer < last; ++layer, ++counted) {
    sum += clean.received[static_cast<std::size_t>(layer)].select(1, 0).mean().item<double>();
  }
  return counted == 0 ? 0.0 : sum / counted;
}

Effect P0Context::read(std::size_t w, const Outcome& outcome, std::int64_t position,
                       std::string name, std::string kind, std::string where) const {
  const Wave& wave = waves[w];
  Effect effect{.name = std::move(name), .kind = std::move(kind), .where = std::move(where)};
  const auto T = inputs.length();
  const auto readable = std::max<std::int64_t>(1, T - std::min(fewest_queries, T / 2));
  const std::int64_t B =
      outcome.received.empty() ? inputs.tokens.batch() : outcome.received.front().size(0);
  effect.sequences = B;
  at::Tensor own = at::zeros({B}, at::kDouble);
  at::Tensor before = at::zeros_like(own);
  at::Tensor others = at::zeros({B, readable}, at::kDouble);
  at::Tensor others_before = at::zeros_like(others);
  std::vector<at::Tensor> each;
  int counted = 0;
  const int last = std::min(wave.last + 1, static_cast<int>(outcome.received.size()));
  for (std::size_t layer = 0; layer < outcome.received.size(); ++layer) {
    const at::Tensor& received = outcome.received[layer];
    const at::Tensor same = clean.received[layer].narrow(0, 0, B);
    effect.sink.push_back(received.select(1, position).mean().item<double>() +
                          beyond(clean.received[layer], position, B));
    each.push_back(received.select(1, position).to(at::kDouble));
    effect.other_sink.push_back(
        std::get<0>(others_only(received, position, readable).max(1)).mean().item<double>());
    const int l = static_cast<int>(layer);
    if (l < wave.onset || l >= last) continue;
    own = own + received.select(1, position).to(at::kDouble) +
          beyond(clean.received[layer], position, B);
    before = before + same.select(1, position).to(at::kDouble) +
             beyond(clean.received[layer], position, B);
    others = others + others_only(received, position, readable).to(at::kDouble);
    others_before = others_before + others_only(same, position, readable).to(at::kDouble);
    ++counted;
  }
  if (!each.empty()) effect.each = at::stack(each);
  effect.value = bootstrap(own / std::max(1, counted), options.seed);
  const double base = (before / std::max(1, counted)).mean().item<double>();

  const at::Tensor& norm = outcome.onset_norm[w];
  if (norm.defined()) {
    effect.norm = bootstrap(norm.select(1, position) + beyond(clean.onset_norm[w], position, B),
                            options.seed);
    const auto [largest, argmax] = others_only(norm, position, T).max(1);
    effect.other_norm = largest.mean().item<double>();
    const at::Tensor new_spike =
        others_only(norm, position, T)
            .gt(spike_norm[w])
            .logical_and(clean.onset_norm[w].narrow(0, 0, B).le(spike_norm[w]));
    const at::Tensor has_rival = new_spike.any(1);
    effect.rival_share = has_rival.to(at::kDouble).mean().item<double>();
    effect.other_position = most_frequent(argmax);
    if (effect.rival_share > 0.0) {
      effect.other_position =
          most_frequent(new_spike.to(at::kLong).argmax(1).masked_select(has_rival));
    }
  }
  const auto [rival, rival_column] = (others / std::max(1, counted)).max(1);
  const double gained =
      (rival - std::get<0>((others_before / std::max(1, counted)).max(1))).mean().item<double>();

  if (position != 0) {
    // There is no sink to remove here; the question is whether one was made.
    effect.removed = std::nan("");
    effect.outcome =
        effect.value.mean >= options.sufficient * p0_sink(w, last) ? "sink made" : "no sink";
  } else if (effect.removed = (base - effect.value.mean) / std::max(base - null_at(0), 1e-9);
             effect.removed < kept_below) {
    effect.outcome = "kept";
  } else if (effect.rival_share >= moved_share) {
    effect.outcome = fmt::format("moved to t = {}", effect.other_position);
  } else if (gained >= inherited * (base - null_at(0)) &&
             rival.mean().item<double>() >= inherited * base) {
    // Attention has moved to a column that was there before, or has no spike.
    effect.outcome = fmt::format("moved to t = {}", most_frequent(rival_column));
  } else {
    effect.outcome = effect.removed >= removed_from ? "removed" : "weakened";
  }
  if (outcome.loss.defined())
    effect.loss_change = bootstrap(outcome.loss - clean.loss.narrow(0, 0, B), options.seed);
  return effect;
}

}  // namespace plumb
