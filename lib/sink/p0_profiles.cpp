// A4, A7, A11, A12, C12: measured tensors, and what numbers would be by chance.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "sink/p0_catalogue_runs.h"
#include "sink/p0_ledger.h"

namespace plumb::p0 {

namespace {

constexpr std::int64_t norm_positions[] = {0, 1, 2, 4, 8, 16, 32, 64};
constexpr double differs = 4.0;  // median absolute deviations between position 0 and the others
constexpr double perturbation = 0.01;  // of the state's length
constexpr int columns_drawn = 8;
constexpr int label_shuffles = 20;

// [d, 5]: smallest, quartiles, largest of each channel over rows [n, d].
at::Tensor five_numbers(const at::Tensor& rows) {
  const at::Tensor sorted = std::get<0>(rows.sort(0));
  std::vector<at::Tensor> columns;
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    columns.push_back(sorted[static_cast<std::int64_t>(
        std::lround(share * static_cast<double>(sorted.size(0) - 1)))]);
  }
  return at::stack(columns, 1);
}

at::Tensor rms_normed(const at::Tensor& x) {
  return x / (x.square().mean(-1, true)).sqrt().clamp_min(1e-30);
}

// Share of pairs (first, other) that a difference of means, over pooled variances and fitted to
// every second sequence, orders right in the rest. `labels` [B, T] says which rows count as first.
double separability(const at::Tensor& states, const std::vector<std::int64_t>& first) {
  const auto B = states.size(0);
  const auto T = states.size(1);
  std::vector<at::Tensor> own;
  std::vector<at::Tensor> rest;
  for (std::int64_t b = 0; b < B; ++b) {
    const auto t = first[static_cast<std::size_t>(b)];
    own.push_back(states[b][t]);
    rest.push_back(states[b][(t + 1 + b) % T]);
  }
  const at::Tensor a = at::stack(own);
  const at::Tensor c = at::stack(rest);
  const at::Tensor even = at::arange(0, B, 2, at::kLong);
  const at::Tensor odd = at::arange(1, B, 2, at::kLong);
  const at::Tensor a_train = a.index_select(0, even);
  const at::Tensor c_train = c.index_select(0, even);
  const at::Tensor variance = a_train.var(0, false) + c_train.var(0, false);
  const at::Tensor detector =
      (a_train.mean(0) - c_train.mean(0)) / (variance + 1e-6 * variance.mean() + 1e-12);
  const at::Tensor high = a.index_select(0, odd).matmul(detector).view({-1, 1});
  const at::Tensor low = c.index_select(0, odd).matmul(detector).view({1, -1});
  return (high.gt(low).to(at::kDouble) + 0.5 * high.eq(low).to(at::kDouble)).mean().item<double>();
}

}  // namespace

void attn0_norm(P0Bench& bench) {
  const at::Tensor lengths = at::linalg_vector_norm(
      bench.clean({Part::attn_out, 0}).cpu().to(at::kDouble), 2, c10::IntArrayRef{-1});
  std::vector<double> rows;
  std::vector<std::int64_t> places;
  for (const auto t : norm_positions) {
    if (t >= bench.length()) continue;
    const Estimate mean = bootstrap(lengths.select(1, t), bench.context.options.seed);
    rows.insert(rows.end(), {mean.mean, mean.low, mean.high});
    places.push_back(t);
  }
  const auto count = static_cast<std::int64_t>(places.size());
  bench.array("positions", {"place"}, at::tensor(places, at::kLong), "");
  bench.array("norm", {"place", "mean_low_high"}, at::tensor(rows, at::kDouble).view({count, 3}),
              "length of what attention of block 0 writes");
  bench.find(
      fmt::format("length of a0: {:.3g} at position 0, {:.3g} at 1 (ratio {:.2f}), {:.3g} at "
                  "{}",
                  rows[0], rows[3], rows[0] / rows[3], rows[rows.size() - 3], places.back()));
}

void channel_table(P0Bench& bench) {
  const at::Tensor& stream = bench.clean({Part::resid_pre, bench.wave().onset});
  const at::Tensor states = stream.cpu().to(at::kDouble);
  const auto d = states.size(2);
  const at::Tensor order =
      std::get<1>(states.select(1, 0).mean(0).abs().sort(0, true));  // ranked channels
  std::int64_t count = 0;
  for (const bool normed : {false, true}) {
    const at::Tensor x = normed ? rms_normed(states) : states;
    const at::Tensor first = x.select(1, 0);
    const at::Tensor rest = x.narrow(1, 1, x.size(1) - 1).reshape({-1, d});
    bench.array(normed ? "after_norm" : "before_norm", {"channel_rank", "place", "five_numbers"},
                at::stack({five_numbers(first), five_numbers(rest)}, 1).index_select(0, order),
                "places: position 0, the others; smallest, quartiles, largest");
    if (!normed) continue;
    const at::Tensor median = std::get<0>(rest.median(0));
    const at::Tensor deviation = std::get<0>((rest - median).abs().median(0)).clamp_min(1e-30);
    const at::Tensor p0 = std::get<0>(first.median(0));
    count = ((p0 - median).abs() / deviation).gt(differs).sum().item<std::int64_t>();
  }
  bench.array("channels", {"channel_rank"}, order, "by size of the mean at position 0");
  bench.find(
      fmt::format("entering layer {}: {} of {} normalised channels of position 0 lie more "
                  "than {:g} median deviations from the others; the largest are {} and {}",
                  bench.wave().onset, count, d, differs, order[0].item<std::int64_t>(),
                  order[1].item<std::int64_t>()));
}

void norm_sensitivity(P0Bench& bench) {
  const at::Tensor states =
      bench.clean({Part::resid_pre, bench.wave().onset}).cpu().to(at::kDouble);
  const at::Tensor length = at::linalg_vector_norm(states, 2, c10::IntArrayRef{-1}, true);
  const at::Tensor mean_length = length.mean();
  const at::Tensor noise = bench.random_like(states);
  const at::Tensor dx = noise / at::linalg_vector_norm(noise, 2, c10::IntArrayRef{-1}, true) *
                        mean_length * perturbation;
  const at::Tensor unit = states / length.clamp_min(1e-30);
  const at::Tensor across = dx - (dx * unit).sum(-1, true) * unit;
  const double width = std::sqrt(static_cast<double>(states.size(2)));
  const at::Tensor moved =
      at::linalg_vector_norm(rms_normed(states + dx) - rms_normed(states), 2, c10::IntArrayRef{-1});
  const at::Tensor expected =
      at::linalg_vector_norm(across, 2, c10::IntArrayRef{-1}) * width / length.squeeze(-1);
  bench.array("moved", {"sequence", "position"}, moved,
              "length of the change of the normalised state under one random change of all states");
  bench.array("expected", {"sequence", "position"}, expected,
              "orthogonal part of that change over the root mean square (arXiv:2603.06591 Eq. 6)");
  bench.find(
      fmt::format("one change of {:g} % of the mean length turns the normalised state by "
                  "{:.3g} at position 0 and by {:.3g} on average at t > 0; the first order "
                  "says {:.3g} and {:.3g}",
                  100 * perturbation, moved.select(1, 0).mean().item<double>(),
                  moved.narrow(1, 1, moved.size(1) - 1).mean().item<double>(),
                  expected.select(1, 0).mean().item<double>(),
                  expected.narrow(1, 1, moved.size(1) - 1).mean().item<double>()));
}

void mean_attention_map(P0Bench& bench) {
  const int layers = bench.context.layers();
  std::vector<at::Tensor> maps;
  for (int layer = 0; layer < layers; ++layer) {
    Plan plan{
        .record = {Record(Site{Part::pattern, layer}, "map",
                          [](const at::Tensor& pattern, const Tile&) { return pattern.mean(1); })},
        .logits = Logits::none};
    plan.until = layer + 1;
    int from = layer;
    while (!bench.context.has_stream(from)) --from;
    plan.restart = Restart{.layer = from, .resid_pre = bench.context.stream(from)};
    const Run run = plumb::run(bench.context.model, bench.context.inputs.tokens, plan);
    bench.context.evaluations += run.evaluations;
    maps.push_back(run.cache.at({Part::pattern, layer}, "map").mean(0).cpu());
  }
  bench.array("map", {"layer", "query", "key"}, at::stack(maps), "mean attention over heads");
}

void nulls(P0Bench& bench) {
  const Wave& wave = bench.wave();
  const auto seed = bench.context.options.seed;
  Random random = Random(seed).fork(101 + bench.w);
  const std::int64_t readable = std::max<std::int64_t>(2, bench.length() / 2);
  std::vector<double> columns;
  for (int i = 0; i < columns_drawn; ++i) {
    const std::int64_t t = 1 + random.below(readable - 1);
    double sum = 0.0;
    for (int layer = wave.onset; layer <= wave.last; ++layer)
      sum += bench.context.clean.received[static_cast<std::size_t>(layer)]
                 .select(1, t)
                 .mean()
                 .item<double>();
    columns.push_back(sum / (wave.last - wave.onset + 1));
  }
  const Estimate drawn = bootstrap(columns, seed);
  bench.find(
      fmt::format("uniform causal attention gives position 0 {:.3f}; {} random columns draw "
                  "{:.3f} [{:.3f}, {:.3f}], position 0 {:.3f}",
                  bench.context.null_at(0), columns_drawn, drawn.mean, drawn.low, drawn.high,
                  bench.context.p0_sink(bench.w, wave.last + 1)));
  const at::Tensor states = bench.clean({Part::resid_pre, wave.onset}).cpu().to(at::kDouble);
  const std::vector<std::int64_t> zeros(static_cast<std::size_t>(bench.batch()), 0);
  const double own = separability(states, zeros);
  std::vector<double> shuffled;
  for (int i = 0; i < label_shuffles; ++i) {
    std::vector<std::int64_t> first;
    for (std::int64_t b = 0; b < bench.batch(); ++b) first.push_back(random.below(bench.length()));
    shuffled.push_back(separability(states, first));
  }
  const Estimate chance = bootstrap(shuffled, seed);
  bench.find(
      fmt::format("a linear detector orders position 0 right in {:.2f} of held-out pairs; "
                  "with permuted labels {:.2f} [{:.2f}, {:.2f}]",
                  own, chance.mean, chance.low, chance.high));
  bench.array("separability", {"labels"}, at::tensor({own, chance.mean, chance.low, chance.high}),
              "own labels; permuted: mean and interval");
  // The other kinds of replacement, for the components that write most.
  const Ledger ledger = make_ledger(bench.context, bench.w);
  for (const auto writer : writers_of(ledger, bench.context.options.located)) {
    const Site site = output_site(writer);
    const std::string name = to_string(writer);
    bench.change(
        name + " := a random vector of its size", {site},
        [&](const at::Tensor& value, Site, std::int64_t) { return bench.random_like(value); },
        false);
    bench.change(
        name + " := its own entries shuffled", {site},
        [&](const at::Tensor& value, Site, std::int64_t) {
          const at::Tensor order =
              at::tensor(Random(seed).fork(7).permutation(value.size(2)), at::kLong);
          return value.index_select(2, order.to(value.device()));
        },
        false);
    bench.change(
        name + " := its mean over t > 0", {site},
        [&](const at::Tensor&, Site at, std::int64_t) {
          return mean_over_others(bench.context, bench.clean(at));
        },
        false);
  }
}

}  // namespace plumb::p0
