// B9, C6, C10: keys and values of position 0.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sink/p0_catalogue_runs.h"

namespace plumb::p0 {

namespace {

constexpr double small_share = 0.1;  // size of the small random value, of the own one

std::vector<Site> in_wave(const P0Bench& bench, Part part) {
  std::vector<Site> sites;
  for (int layer = bench.wave().onset; layer <= bench.wave().last; ++layer)
    sites.push_back({part, layer});
  return sites;
}

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

// Position 0's state entering the wave replaced by that of the control position: no sink is left
// where the direction is what makes it.
Intervention knocked_out(P0Bench& bench) {
  const Site site{Part::resid_pre, bench.wave().onset};
  return {.site = site,
          .where = {.positions = {0}},
          .edit = Put{at_one(bench.clean(site), bench.other())}};
}

std::string logit_table(const P0Bench& bench) {
  return fmt::format("layers {}-{}", bench.wave().onset, bench.wave().last);
}

}  // namespace

void value_ablation(P0Bench& bench) {
  const auto values = in_wave(bench, Part::v);
  const auto keys = in_wave(bench, Part::k);
  bench.change("values zeroed, keys kept", values,
               [](const at::Tensor& own, Site, std::int64_t) { return at::zeros_like(own); });
  bench.change("values := mean over t > 0, keys kept", values,
               [&](const at::Tensor&, Site site, std::int64_t) {
                 return mean_over_others(bench.context, bench.clean(site));
               });
  bench.change(
      "values := a small random one, keys kept", values,
      [&](const at::Tensor& own, Site, std::int64_t) {
        return bench.random_like(own * small_share);
      },
      false);
  bench.change("keys := mean over t > 0, values kept", keys,
               [&](const at::Tensor&, Site site, std::int64_t) {
                 return mean_over_others(bench.context, bench.clean(site));
               });
}

void qk_reading(P0Bench& bench) {
  const Wave& wave = bench.wave();
  const auto& config = bench.context.model.config();
  const std::int64_t group = config.heads / config.kv_heads;
  const double factor = config.attention_scale > 0.0
                            ? config.attention_scale
                            : 1.0 / std::sqrt(static_cast<double>(config.d_head));
  const at::Tensor& direction = bench.context.direction[bench.w];
  // The key that the bare sink direction makes at position 0, at the state's own length.
  std::vector<Intervention> read_keys{knocked_out(bench)};
  std::vector<at::Tensor> splits;
  for (int layer = wave.onset; layer <= wave.last; ++layer) {
    const at::Tensor own = at_one(bench.clean({Part::resid_pre, layer}), 0);
    const at::Tensor bare = direction.to(own.options()).view({1, 1, -1}) *
                            at::linalg_vector_norm(own, 2, c10::IntArrayRef{-1}, true);
    Plan plan{.record = {{Site{Part::k, layer}, Slice{.positions = {0}}}}, .logits = Logits::none};
    plan.restart = Restart{.layer = layer, .resid_pre = bare};
    plan.until = layer + 1;
    const Run run = plumb::run(
        bench.context.model, Tokens{.ids = bench.context.inputs.tokens.ids.narrow(1, 0, 1)}, plan);
    bench.context.evaluations += run.evaluations;
    read_keys.push_back({.site = {Part::k, layer},
                         .where = {.positions = {0}},
                         .edit = Put{run.cache.at({Part::k, layer})}});

    // The logit of position 0 and of the others taken apart, for queries of t > 0.
    const at::Tensor q = bench.clean({Part::q, layer}).to(at::kDouble).permute({0, 2, 1, 3});
    const at::Tensor k = bench.clean({Part::k, layer})
                             .to(at::kDouble)
                             .repeat_interleave(group, 2)
                             .permute({0, 2, 1, 3});  // [B, H, T, d_head]
    const auto T = q.size(2);
    const at::Tensor queries = q.narrow(2, 1, T - 1);
    const at::Tensor first = k.narrow(2, 0, 1);
    const at::Tensor others = k.narrow(2, 1, T - 1);
    const auto length = [](const at::Tensor& x) {
      return at::linalg_vector_norm(x, 2, c10::IntArrayRef{-1}, true).clamp_min(1e-30);
    };
    const at::Tensor q_unit = queries / length(queries);
    const at::Tensor mean_key = others.mean(2, true);
    const at::Tensor gap = first - mean_key;
    const at::Tensor mean_query = queries.mean(2, true);
    const at::Tensor gaps = (queries * gap).sum(-1);
    const at::Tensor of_mean = (mean_query * gap).sum(-1).expand_as(gaps);
    const auto over = [](const at::Tensor& x) { return x.mean(c10::IntArrayRef{0, 2}); };  // [H]
    splits.push_back(at::stack(
        {over((queries * first).sum(-1)) * factor, over((queries * mean_key).sum(-1)) * factor,
         over(length(queries).squeeze(-1)), over(length(first).squeeze(-1)),
         over(length(others).squeeze(-1)), over((q_unit * (first / length(first))).sum(-1)),
         over((q_unit * (mean_key / length(mean_key))).sum(-1)),
         over(of_mean.square()) / over(gaps.square()).clamp_min(1e-30)},
        1));
  }
  const at::Tensor table = at::stack(splits);  // [layers, H, 8]
  bench.array("reading", {"layer", "head", "part"}, table,
              "of " + logit_table(bench) +
                  ": logit at position 0, logit of the mean other key, |q|, |k0|, |k| of others, "
                  "cos(q, k0), cos(q, mean other key), share of the mean query in the second "
                  "moment of the gap");
  const at::Tensor mean = table.mean(c10::IntArrayRef{0, 1});
  bench.find(
      fmt::format("{}: logit {:.2f} at position 0 against {:.2f}; |k| {:.2f} against {:.2f}; "
                  "cosine with the queries {:.2f} against {:.2f}; the mean query alone makes "
                  "{:.0f} % of the gap's second moment",
                  logit_table(bench), mean[0].item<double>(), mean[1].item<double>(),
                  mean[3].item<double>(), mean[4].item<double>(), mean[5].item<double>(),
                  mean[6].item<double>(), 100 * mean[7].item<double>()));
  const P0Reading out = bench.run("state of another position at the onset", "knocked out", "P0",
                                  {knocked_out(bench)});
  const P0Reading back = bench.run("the same, keys of position 0 := those of the bare direction",
                                   "edit", "P0", read_keys);
  std::vector<Intervention> random_keys{read_keys.front()};
  for (std::size_t i = 1; i < read_keys.size(); ++i) {
    random_keys.push_back(read_keys[i]);
    random_keys.back().edit = Put{bench.random_like(std::get<Put>(read_keys[i].edit).value)};
  }
  bench.run("the same, keys of position 0 := random ones of that size", "random vector", "P0",
            random_keys);
  bench.find(
      fmt::format("knocked out, the sink is {:.3f}; with the keys of the bare direction "
                  "alone {:.3f}; clean {:.3f}",
                  out.effect.value.mean, back.effect.value.mean,
                  bench.context.p0_sink(bench.w, wave.last + 1)));
}

void kv_transplant(P0Bench& bench) {
  const Intervention out = knocked_out(bench);
  const auto put = [&](Part part, bool mean) {
    std::vector<Intervention> edits;
    for (const Site site : in_wave(bench, part)) {
      const at::Tensor& clean = bench.clean(site);
      edits.push_back(
          {.site = site,
           .where = {.positions = {0}},
           .edit = Put{mean ? mean_over_others(bench.context, clean) : at_one(clean, 0)}});
    }
    return edits;
  };
  const auto joined = [&](const std::vector<std::vector<Intervention>>& parts) {
    std::vector<Intervention> edits{out};
    for (const auto& part : parts) edits.insert(edits.end(), part.begin(), part.end());
    return edits;
  };
  bench.run("nothing put back", "knocked out", "P0", {out});
  bench.run("keys and values put back", "edit", "P0",
            joined({put(Part::k, false), put(Part::v, false)}));
  bench.run("keys alone put back", "edit", "P0", joined({put(Part::k, false)}));
  bench.run("values alone put back", "edit", "P0", joined({put(Part::v, false)}));
  bench.run("keys put back, values := mean over t > 0", "edit", "P0",
            joined({put(Part::k, false), put(Part::v, true)}));
  const auto loss = [&](std::size_t i) { return bench.at(i).effect.loss_change.value().mean; };
  bench.find(fmt::format(
      "without position 0's state the loss changes by {:+.3f} nats; with its clean keys and values "
      "put back {:+.3f}, keys alone {:+.3f}, values alone {:+.3f}, keys and a mean value {:+.3f}",
      loss(0), loss(1), loss(2), loss(3), loss(4)));
}

}  // namespace plumb::p0
