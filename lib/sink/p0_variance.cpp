// B8, C8, C9, C16: what the first attention could tell position 0 by.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/random.h"
#include "sink/p0_catalogue_runs.h"

namespace plumb::p0 {

namespace {

constexpr std::array amplified{1.0, 2.0, 4.0, 8.0};
constexpr std::array shrunk{0.5, 0.25};
constexpr std::array<std::int64_t, 4> extra_pairs{1, 2, 4, 8};

Site first_attention() { return {Part::attn_out, 0}; }

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

// Mean over the batch at a position, [1, 1, d].
at::Tensor batch_mean(const at::Tensor& values, std::int64_t position) {
  return at_one(values, position).mean(0, true);
}

// Root mean square distance to that mean.
double spread(const at::Tensor& values, std::int64_t position) {
  const at::Tensor own = at_one(values, position).to(at::kDouble);
  return std::sqrt((own - own.mean(0, true)).square().sum(-1).mean().item<double>());
}

double mean_length(const at::Tensor& values, std::int64_t position) {
  return at::linalg_vector_norm(at_one(values, position).to(at::kDouble), 2, c10::IntArrayRef{-1})
      .mean()
      .item<double>();
}

double mean_spread_of_others(const at::Tensor& values) {
  double sum = 0.0;
  for (std::int64_t t = 1; t < values.size(1); ++t) sum += spread(values, t);
  return sum / static_cast<double>(values.size(1) - 1);
}

std::vector<int> blocks_before(const P0Bench& bench) {
  std::vector<int> blocks;
  for (int layer = 0; layer < std::max(1, bench.wave().onset); ++layer) blocks.push_back(layer);
  return blocks;
}

std::string layer_set(const std::vector<int>& layers) {
  return layers.size() == 1 ? fmt::format("block {}", layers.front())
                            : fmt::format("blocks {}-{}", layers.front(), layers.back());
}

}  // namespace

void variance_match(P0Bench& bench) {
  const Site site = first_attention();
  const at::Tensor& values = bench.clean(site);
  const auto scaled_spread = [&](double factor) {
    return [&values, factor](const at::Tensor& own, Site, std::int64_t position) {
      const at::Tensor mean = batch_mean(values, position);
      return mean + factor * (own - mean);
    };
  };
  const auto scaled = [](double factor) {
    return [factor](const at::Tensor& own, Site, std::int64_t) { return own * factor; };
  };
  for (const double factor : amplified) {
    bench.make(fmt::format("spread of a0 x {:g}", factor), {site}, scaled_spread(factor),
               factor > 1.0);
    if (factor > 1.0)
      bench.make(fmt::format("a0 itself x {:g}", factor), {site}, scaled(factor), false);
  }
  const double own = spread(values, 0);
  const double others = mean_spread_of_others(values);
  for (const double factor : shrunk) {
    bench.change(fmt::format("spread of a0 x {:g}", factor), {site}, scaled_spread(factor), false);
    bench.change(fmt::format("a0 itself x {:g}", factor), {site}, scaled(factor), false);
  }
  bench.change("spread of a0 at the level of t > 0", {site},
               scaled_spread(own > 0.0 ? others / own : 1.0));
  bench.array(
      "spread", {"position"},
      [&] {
        std::vector<double> spreads;
        for (std::int64_t t = 0; t < values.size(1); ++t) spreads.push_back(spread(values, t));
        return at::tensor(spreads, at::kDouble);
      }(),
      "root mean square distance of a0 to its mean over sequences");
  bench.find(
      fmt::format("spread of a0 over sequences: {:.3g} at position 0, {:.3g} on average at "
                  "t > 0",
                  own, others));
}

void deself(P0Bench& bench) {
  const auto& config = bench.context.model.config();
  if (config.gated_attention) {
    bench.find("not run: the heads' outputs are gated, so that a mixture of values is not theirs");
    return;
  }
  const std::int64_t B = bench.batch();
  const std::int64_t T = bench.length();
  const std::int64_t group = config.heads / config.kv_heads;
  const std::vector<int> all = blocks_before(bench);
  std::vector<std::vector<int>> sets{{0}};
  if (all.size() > 1) sets.push_back(all);
  Random random = Random(bench.context.options.seed).fork(71 + bench.w);
  for (const auto& layers : sets) {
    for (const std::int64_t n : extra_pairs) {
      // The same donors in every layer: one token's keys and values go together.
      const at::Tensor sequence = at::empty({B, n}, at::kLong);
      const at::Tensor position = at::empty({B, n}, at::kLong);
      for (std::int64_t b = 0; b < B; ++b) {
        for (std::int64_t i = 0; i < n; ++i) {
          sequence[b][i] = (b + 1 + random.below(B - 1)) % B;
          position[b][i] = 1 + random.below(T - 1);
        }
      }
      std::vector<Intervention> edits;
      for (const int layer : layers) {
        const Site z{Part::z, layer};
        const at::Tensor& v = bench.clean({Part::v, layer});  // [B, T, K, d_head]
        const at::Tensor extra = v.index({sequence.to(v.device()), position.to(v.device())})
                                     .sum(1, true)
                                     .repeat_interleave(group, 2);
        const auto share = 1.0 / static_cast<double>(n + 1);
        edits.push_back({.site = z, .where = {.positions = {0}}, .edit = Scale{share}});
        edits.push_back({.site = z, .where = {.positions = {0}}, .edit = Add{extra * share}});
      }
      bench.run(fmt::format("{} extra values mixed in, {}", n, layer_set(layers)), "edit", "P0",
                edits);
    }
  }
  const at::Tensor& z = bench.clean({Part::z, 0});
  std::vector<Intervention> copies;
  copies.push_back({.site = {Part::z, 0},
                    .where = {.positions = {0}},
                    .edit = Put{(at_one(z, 0) + 8.0 * at_one(z, 0)) / 9.0}});
  bench.run("8 copies of its own value mixed in, block 0", "copies", "P0", copies);
}

void factorial(P0Bench& bench) {
  const Site site = first_attention();
  const at::Tensor& values = bench.clean(site);
  const std::int64_t k = bench.other();
  struct Level {
    double norm;
    double spread;
    at::Tensor mean;
  };
  const auto level = [&](std::int64_t position) {
    return Level{mean_length(values, position), spread(values, position),
                 batch_mean(values, position)};
  };
  const Level p0 = level(0);
  const Level at_k = level(k);
  const std::array<const char*, 3> factors{"norm", "direction", "variance"};
  std::vector<double> effects;
  for (const bool at_zero : {false, true}) {
    const std::int64_t place = at_zero ? 0 : k;
    const Level& own = at_zero ? p0 : at_k;
    const Level& donor = at_zero ? at_k : p0;
    const at::Tensor before = at_one(values, place);
    std::vector<at::Tensor> cells;
    for (int cell = 0; cell < 8; ++cell) {
      const bool norm = (cell & 1) != 0;
      const bool direction = (cell & 2) != 0;
      const bool variance = (cell & 4) != 0;
      const at::Tensor mean =
          direction ? donor.mean * (own.mean.norm() / donor.mean.norm()) : own.mean;
      const double ratio = variance && own.spread > 0.0 ? donor.spread / own.spread : 1.0;
      at::Tensor made = mean + ratio * (before - own.mean);
      const at::Tensor length = at::linalg_vector_norm(made, 2, c10::IntArrayRef{-1}, true);
      const at::Tensor wanted = at::linalg_vector_norm(before, 2, c10::IntArrayRef{-1}, true) *
                                (norm && own.norm > 0.0 ? donor.norm / own.norm : 1.0);
      made = made * (wanted / length.clamp_min(1e-30));
      const auto mark = [](bool exchanged) { return exchanged ? "exchanged" : "own"; };
      bench.run(fmt::format("norm {}, direction {}, variance {}", mark(norm), mark(direction),
                            mark(variance)),
                "edit", at_position(place),
                {{.site = site, .where = {.positions = {place}}, .edit = Put{made}}}, place);
      cells.push_back(bench.last_values());
    }
    const at::Tensor table = at::stack(cells);  // [8, B]
    for (std::size_t f = 0; f < factors.size(); ++f) {
      at::Tensor with = at::zeros({bench.batch()}, at::kDouble);
      at::Tensor without = at::zeros_like(with);
      for (std::int64_t cell = 0; cell < 8; ++cell)
        (((cell >> f) & 1) != 0 ? with : without) += table[cell] / 4.0;
      const Estimate effect = bootstrap(with - without, bench.context.options.seed);
      effects.insert(effects.end(), {effect.mean, effect.low, effect.high});
      bench.find(
          fmt::format("{}: {} of a0 exchanged with that of {} changes the sink by {:+.3f} "
                      "[{:+.3f}, {:+.3f}]",
                      at_position(place), factors[f], at_position(at_zero ? k : 0), effect.mean,
                      effect.low, effect.high));
    }
  }
  bench.array("main_effects", {"place", "factor", "mean_low_high"},
              at::tensor(effects, at::kDouble).view({2, 3, 3}),
              "places: the control position, position 0; factors: norm, direction, variance");
}

void donor_pattern(P0Bench& bench) {
  const std::int64_t k = bench.other();
  const std::vector<int> all = blocks_before(bench);
  std::vector<std::vector<int>> sets{{0}};
  if (all.size() > 1) sets.push_back(all);
  const auto seen = [k](const at::Tensor& row) {
    const at::Tensor keys = at::arange(row.size(-1), at::TensorOptions().dtype(at::kLong));
    return keys.le(k).to(row.options());
  };
  for (const auto& layers : sets) {
    const auto edit_all = [&](const std::string& name, const std::string& role,
                              const std::function<Edit(int)>& make, Part part) {
      std::vector<Intervention> edits;
      for (const int layer : layers)
        edits.push_back({.site = {part, layer}, .where = {.positions = {k}}, .edit = make(layer)});
      bench.run(name + ", " + layer_set(layers), role, at_position(k), edits, k);
    };
    edit_all(
        "the pattern of the same query of another sequence", "edit",
        [&](int layer) -> Edit {
          return Put{bench.clean({Part::pattern, layer}).narrow(2, k, 1).roll({1}, {0})};
        },
        Part::pattern);
    edit_all(
        "its own pattern with the keys shuffled", "edit",
        [&](int layer) -> Edit {
          Random random = Random(bench.context.options.seed).fork(83);
          const at::Tensor order = at::tensor(random.permutation(k + 1), at::kLong);
          at::Tensor row = bench.clean({Part::pattern, layer}).narrow(2, k, 1).clone();
          const at::Tensor part = row.narrow(3, 0, k + 1);
          part.copy_(part.index_select(3, order.to(row.device())).clone());
          return Put{row};
        },
        Part::pattern);
    edit_all(
        "uniform attention", "edit",
        [&](int) -> Edit {
          return Custom{"uniform attention", [seen](const at::Tensor& row) {
                          const at::Tensor keys = seen(row);
                          return (keys / keys.sum()).expand_as(row);
                        }};
        },
        Part::pattern);
    edit_all(
        "only itself", "edit", [](int) -> Edit { return OnlySelf{}; }, Part::scores);
    edit_all(
        "attention output zeroed", "edit", [](int) -> Edit { return Zero{}; }, Part::attn_out);
  }
  // The mark: at position 0, what attention writes on average at t > 0, and a vector of that size.
  bench.change("the mean of a0 over t > 0", {first_attention()},
               [&](const at::Tensor&, Site site, std::int64_t) {
                 return mean_over_others(bench.context, bench.clean(site));
               });
}

}  // namespace plumb::p0
