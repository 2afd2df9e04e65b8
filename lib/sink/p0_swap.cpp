// B1, B2, B3, B7: the state of position 0 exchanged, clamped, projected, moved.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "sink/p0_catalogue_runs.h"

namespace plumb::p0 {

namespace {

constexpr int layers_clamped = 6;  // single layers of a wave at which the norm is clamped
constexpr std::int64_t donor_step = 3;

at::Tensor lengths_of(const at::Tensor& states) {
  return at::linalg_vector_norm(states, 2, c10::IntArrayRef{-1}, true);
}

// The donor's direction at the own length.
at::Tensor turned(const at::Tensor& own, const at::Tensor& donor) {
  return donor * (lengths_of(own) / lengths_of(donor).clamp_min(1e-30));
}

// Another position t > 0 than this one.
std::int64_t donor_position(const P0Bench& bench, std::int64_t position) {
  if (position == 0) return bench.random_position();
  const std::int64_t next = position + donor_step;
  return next < bench.length() ? next : std::max<std::int64_t>(1, position - donor_step);
}

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

at::Tensor another_sequence(const at::Tensor& values) { return values.roll({1}, {0}); }

at::Tensor without(const at::Tensor& own, const at::Tensor& direction) {
  const at::Tensor unit = direction.to(own.options());
  return own - own.matmul(unit).unsqueeze(-1) * unit;
}

at::Tensor median_length(const at::Tensor& stream) {
  const at::Tensor lengths = lengths_of(stream);
  return std::get<0>(lengths.narrow(1, 1, lengths.size(1) - 1).median(1, true));
}

std::string named(int j) { return fmt::format("X[{}{}]", j / 2, j % 2 == 0 ? "" : ".5"); }

}  // namespace

void content_swap(P0Bench& bench) {
  const std::vector<int> halves = bench.half_layers();
  for (const int j : halves) {
    const Site site = bench.half_layer(j);
    const bool controls = j == halves.back();
    bench.change(
        named(j) + ": direction of the same position of another sequence", {site},
        [&](const at::Tensor& own, Site at, std::int64_t position) {
          return turned(own, another_sequence(at_one(bench.clean(at), position)));
        },
        controls);
    bench.change(
        named(j) + ": direction of another position t > 0", {site},
        [&](const at::Tensor& own, Site at, std::int64_t position) {
          return turned(own, at_one(bench.clean(at), donor_position(bench, position)));
        },
        controls);
  }
}

void norm_clamp(P0Bench& bench) {
  const Wave& wave = bench.wave();
  const auto clamped = [&](const at::Tensor& own, Site site, std::int64_t) {
    return own * (median_length(bench.clean(site)) / lengths_of(own));
  };
  const int count = wave.last - wave.onset + 1;
  const int step = std::max(1, (count + layers_clamped - 1) / layers_clamped);
  for (int layer = wave.onset; layer <= wave.last; layer += step) {
    bench.change(fmt::format("norm clamped entering layer {}", layer), {{Part::resid_pre, layer}},
                 clamped, layer == wave.onset);
  }
  std::vector<Intervention> everywhere;
  for (int layer = wave.onset; layer <= wave.last; ++layer) {
    const Site site{Part::resid_pre, layer};
    everywhere.push_back({.site = site,
                          .where = {.positions = {0}},
                          .edit = ClampNorm{median_length(bench.clean(site))}});
  }
  const P0Reading& all =
      bench.run("norm clamped entering every layer of the wave", "edit", "P0", everywhere);
  const auto first = static_cast<std::size_t>(wave.onset);
  bench.find(fmt::format(
      "clamped entering layer {0}, that layer's sink is {1:.3f} against {2:.3f} (a pre-norm hides "
      "the norm from the layer at hand); over the wave it loses {3:.0f} % of its excess, clamped "
      "in every layer {4:.0f} %",
      wave.onset, bench.at(0).by_layer[first].mean,
      bench.context.clean.received[first].select(1, 0).mean().item<double>(),
      100 * bench.at(0).removed.mean, 100 * all.removed.mean));
  bench.change("norm clamped and sink direction projected out at the onset",
               {{Part::resid_pre, wave.onset}},
               [&](const at::Tensor& own, Site site, std::int64_t position) {
                 return without(clamped(own, site, position), bench.context.direction[bench.w]);
               });
}

void direction_removal(P0Bench& bench) {
  const Site site{Part::resid_pre, bench.wave().onset};
  const at::Tensor& direction = bench.context.direction[bench.w];
  bench.change("sink direction projected out", {site},
               [&](const at::Tensor& own, Site, std::int64_t) { return without(own, direction); });
  bench.change("mean state of t > 0", {site}, [&](const at::Tensor&, Site at, std::int64_t) {
    return mean_over_others(bench.context, bench.clean(at));
  });
  const at::Tensor random = bench.random_like(direction);
  bench.run("a random direction projected out", "random vector", "P0",
            {{.site = site, .where = {.positions = {0}}, .edit = ProjectOut{random}}});
}

void transplant(P0Bench& bench) {
  const Wave& wave = bench.wave();
  std::vector<Site> all;
  for (int layer = std::min(1, wave.onset); layer <= wave.onset; ++layer)
    all.push_back({Part::resid_pre, layer});
  const std::vector<Site> last{all.back()};
  const auto own_p0 = [&](const at::Tensor&, Site site, std::int64_t) {
    return at_one(bench.clean(site), 0);
  };
  bench.make("position 0's state at the onset", last, own_p0);
  bench.make("position 0's state of another sequence", last,
             [&](const at::Tensor&, Site site, std::int64_t) {
               return another_sequence(at_one(bench.clean(site), 0));
             });
  if (all.size() > 1) {
    bench.make(fmt::format("position 0's states entering layers 1-{}", wave.onset), all, own_p0);
  }
  bench.make("the state of another position t > 0", last,
             [&](const at::Tensor&, Site site, std::int64_t position) {
               return at_one(bench.clean(site), donor_position(bench, position));
             });
  const std::int64_t k = bench.other();
  bench.change(fmt::format("the state of t = {}", k), last,
               [&](const at::Tensor&, Site site, std::int64_t position) {
                 return at_one(bench.clean(site), position == 0 ? k : donor_position(bench, k));
               });
  const auto& made = bench.at(0);
  bench.find(fmt::format(
      "position 0's state put at t = {} draws {:.3f} there (a random change of that size {:.3f}), "
      "while position 0 itself draws {:.3f} without the edit",
      k, made.effect.value.mean, bench.at(1).effect.value.mean,
      bench.context.p0_sink(bench.w, wave.last + 1)));
}

}  // namespace plumb::p0
