// C2, C4, B4, C7, C17: what the locator rests on, by identifier and with full read-outs.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "sink/p0_catalogue_runs.h"
#include "sink/p0_ledger.h"

namespace plumb::p0 {

namespace {

constexpr std::int64_t tokens_at_once = 2048;
constexpr double most_of_it = 0.99;     // share that the counted neurons carry
constexpr double worth_controls = 0.3;  // share removed from which the controls are run
constexpr std::array replacements{Ablation::zero, Ablation::mean, Ablation::resample};

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

std::vector<Component> before_onset(const P0Bench& bench) {
  return components_of_blocks(0, bench.wave().onset);
}

std::string names_of(const std::vector<Component>& components) {
  std::string text;
  for (const auto component : components) text += (text.empty() ? "" : ", ") + to_string(component);
  return text;
}

}  // namespace

void closed_system(P0Bench& bench) {
  const Model& model = bench.context.model;
  const std::int64_t vocab = model.config().vocab;
  const int onset = bench.wave().onset;
  const Site site = onset == 0 ? Site{Part::resid_pre, 0} : Site{Part::resid_post, onset - 1};
  Plan plan{.record = {Record(
                site, "norm_cosine",
                [u = bench.context.direction[bench.w]](const at::Tensor& stream, const Tile&) {
                  const at::Tensor x = stream.squeeze(1).to(at::kDouble);
                  const at::Tensor norm = x.norm(2, -1);
                  return at::stack({norm, x.matmul(u.to(x.device())) / norm.clamp_min(1e-30)}, 1);
                })},
            .logits = Logits::none};
  plan.until = std::max(1, onset);
  std::vector<at::Tensor> pieces;
  for (std::int64_t first = 0; first < vocab; first += tokens_at_once) {
    const at::Tensor ids =
        at::arange(first, std::min(vocab, first + tokens_at_once), at::kLong).unsqueeze(1);
    const Run run = plumb::run(model, Tokens{.ids = ids}, plan);
    bench.context.evaluations += run.evaluations;
    pieces.push_back(run.cache.at(site, "norm_cosine").cpu());
  }
  const at::Tensor table = at::cat(pieces, 0);
  bench.array(
      "vocabulary", {"token", "norm_cosine"}, table,
      fmt::format("every token as a sequence of its own: length of its state entering layer "
                  "{} and cosine with the sink direction",
                  onset));
  const double spiking = table.select(1, 0)
                             .gt(bench.context.spike_norm[bench.w])
                             .to(at::kDouble)
                             .mean()
                             .item<double>();
  const at::Tensor cosine = table.select(1, 1);
  bench.find(fmt::format(
      "{:.2f} % of {} tokens spike at position 0 (length above {:.3g}); cosine "
      "with the sink direction {:.3f} on average, {:.3f} at least (token {})",
      100 * spiking, vocab, bench.context.spike_norm[bench.w], cosine.mean().item<double>(),
      cosine.min().item<double>(), cosine.argmin().item<std::int64_t>()));
}

void ledger(P0Bench& bench) {
  const Ledger found = make_ledger(bench.context, bench.w);
  std::vector<double> rows;
  std::string names;
  for (const auto& row : found.components) {
    rows.insert(rows.end(), {row.p0, row.others});
    names += (names.empty() ? "" : ", ") + row.name;
  }
  const auto count = static_cast<std::int64_t>(found.components.size());
  bench.array("components", {"component", "place"}, at::tensor(rows, at::kDouble).view({count, 2}),
              "write along the sink direction at position 0, and on average at t > 0, of " + names);
  const auto writers = writers_of(found, bench.context.options.located);
  bench.find(fmt::format("{} write {:.0f} % of {:.3g}; the parts sum to it within {:.1e}",
                         names_of(writers), 100 * bench.context.options.located, found.total,
                         found.closing_error));
  const Model& model = bench.context.model;
  for (const auto writer : writers) {
    if (!writer.mlp || is_sparse(model.config(), writer.layer) ||
        model.config().norm_place != NormPlace::before)
      continue;
    const at::Tensor post =
        at_one(bench.clean({Part::mlp_post, writer.layer}), 0).squeeze(1).cpu().to(at::kDouble);
    const at::Tensor down = model.weight(Weight::down, writer.layer).cpu().to(at::kDouble);
    const at::Tensor parts =
        post.mean(0) * bench.context.direction[bench.w].cpu().matmul(down);  // [d_mlp]
    const auto [sorted, order] = parts.sort(0, true);
    const double total = parts.sum().item<double>();
    const auto enough = (sorted.cumsum(0) < most_of_it * total).sum().item<std::int64_t>() + 1;
    bench.array(to_string(writer) + "_neurons", {"neuron"}, parts,
                "each neuron's write at position 0 along the sink direction");
    bench.find(
        fmt::format("{}: {} of {} neurons carry {:.0f} % of its write; the largest is {} "
                    "with {:.0f} %",
                    to_string(writer), enough, parts.size(0), 100 * most_of_it,
                    order[0].item<std::int64_t>(), 100 * sorted[0].item<double>() / total));
  }
}

void knockout(P0Bench& bench) {
  const auto components = before_onset(bench);
  std::vector<double> removed;
  std::vector<std::pair<double, Component>> ranked;
  for (const auto component : components) {
    double strongest = 0.0;
    for (const auto kind : replacements) {
      const P0Reading& reading = bench.run(to_string(component) + " by " + to_string(kind), "edit",
                                           "P0", bench.context.replace({component}, kind));
      removed.insert(removed.end(),
                     {reading.removed.mean, reading.removed.low, reading.removed.high});
      if (kind != Ablation::zero) strongest = std::max(strongest, reading.removed.mean);
    }
    ranked.emplace_back(strongest, component);
    if (strongest < worth_controls) continue;
    const Site site = output_site(component);
    const auto mean = [&](const at::Tensor&, Site at, std::int64_t) {
      return mean_over_others(bench.context, bench.clean(at));
    };
    bench.change(to_string(component) + " by its mean over t > 0", {site}, mean);
  }
  if (components.empty()) {
    bench.find("not run: the wave starts at layer 0, before any component");
    return;
  }
  bench.array(
      "removed", {"component", "kind", "mean_low_high"},
      at::tensor(removed, at::kDouble).view({static_cast<std::int64_t>(components.size()), 3, 3}),
      "share of the excess removed by zero, mean, resample at position 0 of " +
          names_of(components));
  std::ranges::stable_sort(ranked, [](const auto& a, const auto& b) { return a.first > b.first; });
  constexpr std::size_t pair_members = 4;
  ranked.resize(std::min(ranked.size(), pair_members));
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    for (std::size_t j = i + 1; j < ranked.size(); ++j) {
      std::vector<Component> pair{ranked[i].second, ranked[j].second};
      std::ranges::sort(pair);
      for (const auto kind : {Ablation::mean, Ablation::resample}) {
        bench.run(to_string(pair) + " by " + to_string(kind), "edit", "P0",
                  bench.context.replace(pair, kind));
      }
    }
  }
  for (const auto kind : replacements) {
    bench.run(fmt::format("all of them by {}", to_string(kind)), "edit", "P0",
              bench.context.replace(components, kind));
  }
  bench.find(fmt::format("strongest alone, by mean or resample: {} with {:.0f} %",
                         to_string(ranked.front().second), 100 * ranked.front().first));
}

void mask_to_self(P0Bench& bench) {
  const int onset = bench.wave().onset;
  const std::int64_t k = bench.other();
  const int layers = bench.context.layers();
  std::vector<std::vector<int>> sets;
  const auto offer = [&](std::vector<int> set) {
    std::erase_if(set, [&](int layer) { return layer >= layers; });
    if (!set.empty() && std::ranges::find(sets, set) == sets.end()) sets.push_back(std::move(set));
  };
  for (const int layer : {0, 1, 2}) offer({layer});
  offer({0, 1});
  std::vector<int> before;
  for (int layer = 0; layer < onset; ++layer) before.push_back(layer);
  offer(before);
  std::vector<int> all;
  for (int layer = 0; layer < layers; ++layer) all.push_back(layer);
  offer(all);
  for (const auto& set : sets) {
    std::vector<Intervention> itself;
    std::vector<Intervention> another;
    for (const int layer : set) {
      const Slice query{.positions = {k}};
      itself.push_back({.site = {Part::scores, layer}, .where = query, .edit = OnlySelf{}});
      another.push_back({.site = {Part::pattern, layer},
                         .where = query,
                         .edit = Custom{"one other key", [j = k / 2](const at::Tensor& row) {
                                          at::Tensor one = at::zeros_like(row);
                                          one.select(-1, j).fill_(1.0);
                                          return one;
                                        }}});
    }
    const std::string name = fmt::format("layers {{{}}}", fmt::join(set, ","));
    bench.run(name, "edit", at_position(k), itself, k);
    bench.run(name, "sees one other key", at_position(k), another, k);
  }
  std::size_t best = sets.size();
  for (std::size_t i = 0; i < sets.size(); ++i) {
    if (bench.at(2 * i).effect.outcome != "sink made") continue;
    if (best == sets.size() || sets[i].size() < sets[best].size()) best = i;
  }
  bench.find(
      best == sets.size()
          ? std::string("no layer set tried makes a sink of a position that sees only itself")
          : fmt::format("the smallest layer set tried that makes a sink at t = {}: {{{}}}, "
                        "drawing {:.3f}",
                        k, fmt::join(sets[best], ","), bench.at(2 * best).effect.value.mean));
}

void rivals(P0Bench& bench) {
  const Ledger found = make_ledger(bench.context, bench.w);
  const auto writers = writers_of(found, bench.context.options.located);
  if (writers.empty()) {
    bench.find("not run: no component before the onset writes the sink direction");
    return;
  }
  for (const auto kind : replacements) {
    const P0Reading& reading =
        bench.run(fmt::format("{} by {}", to_string(writers), to_string(kind)), "edit", "P0",
                  bench.context.replace(writers, kind));
    const auto peak = static_cast<std::size_t>(bench.wave().peak);
    bench.find(
        fmt::format("{} by {}: {}; at layer {} the largest other column draws {:.3f}, and "
                    "another position spikes in {:.0f} % of sequences",
                    to_string(writers), to_string(kind), reading.effect.outcome, bench.wave().peak,
                    reading.effect.other_sink[peak], 100 * reading.effect.rival_share));
  }
}

}  // namespace plumb::p0
