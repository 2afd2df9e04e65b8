// Path patching against the passes of its definition.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "plumb/patch_cost.h"
#include "plumb/path_patch.h"
#include "support/naive_path.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb {
namespace {

// Float64 throughout; the engine adds the same numbers in another order.
constexpr double tolerance = 1e-10;

Paths paths_to(const std::string& receivers, const std::vector<std::string>& via, PathMlps mlps,
               const ModelConfig& config) {
  Paths paths{.receivers = parse_sites(receivers, config.layers), .mlps = mlps};
  for (const std::string& hop : via) paths.via.push_back(parse_sites(hop, config.layers));
  return paths;
}

// Every sender of z by layer and head (or at one position, or of another kind).
void expect_as_naive(const Model& model, const Pairs& pairs, const std::string& senders,
                     const Paths& paths, const PatchOptions& options) {
  SCOPED_TRACE(senders + " to " + to_string(paths.receivers.front()) + ", MLPs " +
               to_string(paths.mlps));
  const SweepSpec spec = parse_sweep(senders);
  const PatchReport report = path_patch(model, pairs, {spec}, paths, options);
  EXPECT_EQ(foresee_path_patch(model, pairs, {spec}, paths, options).evaluations,
            report.evaluations);
  const at::Tensor& found = report.sweeps.front().each;
  const at::Tensor flat = found.reshape({-1, pairs.count()});
  for (std::int64_t index = 0; index < flat.size(0); ++index) {
    SlicedSite sender{.site = {spec.part, 0}};
    std::int64_t rest = index;
    for (std::size_t axis = spec.axes.size(); axis-- > 0;) {
      const std::int64_t size = found.size(static_cast<std::int64_t>(axis));
      const std::int64_t place = rest % size;
      rest /= size;
      switch (spec.axes[axis]) {
        case SweepAxis::layer: sender.site.layer = static_cast<int>(place); break;
        case SweepAxis::position: sender.slice.positions = {place}; break;
        case SweepAxis::head: sender.slice.heads = {place}; break;
        case SweepAxis::neuron: sender.slice.units = {place}; break;
        default: sender.slice.experts = {place}; break;
      }
    }
    if (!has_part(model.config(), sender.site.part, sender.site.layer)) continue;
    const at::Tensor naive = test::naive_paths(model, pairs, {sender}, paths, options);
    EXPECT_LT((flat[index] - naive).abs().max().item<double>(), tolerance) << to_string(sender);
  }
}

class PathTwin : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Configs, PathTwin,
                         testing::Values(0, 1, 4, 6, 12, 13, 14, 15, 16, 17, 18, 19, 20));

TEST_P(PathTwin, EveryPathGivesWhatItsPassesGive) {
  const ModelConfig config = test::any_config(GetParam());
  SCOPED_TRACE(config.family);
  const Model model = test::toy_model(config, GetParam(), {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, GetParam() + 100);
  PatchOptions options{.raw = true};
  options.direction = GetParam() % 3 == 0 ? Direction::denoising : Direction::noising;
  const std::string end = "L" + std::to_string(config.layers - 1);
  const std::string key_head = std::to_string(config.kv_heads - 1);
  for (const PathMlps mlps : {PathMlps::frozen, PathMlps::recomputed}) {
    const auto to = [&](const std::string& receivers, const std::vector<std::string>& via = {}) {
      return paths_to(receivers, via, mlps, config);
    };
    expect_as_naive(model, pairs, "z:layer,head", to("logits"), options);
    expect_as_naive(model, pairs, "z:layer,head,position", to(end + ".q[h=0]"), options);
    expect_as_naive(model, pairs, "z:layer,head", to(end + ".k[h=" + key_head + "]"), options);
    expect_as_naive(model, pairs, "mlp_out:layer,position", to(end + ".v"), options);
    expect_as_naive(model, pairs, "embed:position", to("L1.q[h=0] L1.v[h=0;t=2,3]"), options);
    expect_as_naive(model, pairs, "attn_out:layer", to(end + ".mlp_in[t=1,4] L1.k_in"), options);
    expect_as_naive(model, pairs, "head_out:layer,head", to(end + ".resid_mid"), options);
    expect_as_naive(model, pairs, "z:layer,head", to("L0.resid_post[t=2]"), options);
    expect_as_naive(model, pairs, "mlp_out:layer", to("resid_final[t=3]"), options);
    // Chains: by a head's queries, by its values, by an MLP, by two blocks.
    expect_as_naive(model, pairs, "embed:position", to("logits", {"L1.q[h=0]"}), options);
    expect_as_naive(model, pairs, "z:layer,head", to("logits", {"L1.v[h=0] " + end + ".mlp_in"}),
                    options);
    expect_as_naive(model, pairs, "mlp_out:layer,position",
                    to(end + ".mlp_in", {"L1.k[h=" + key_head + "] L1.q[t=3,4]"}), options);
    if (!config.parallel)  // there the MLP reads beside attention, not behind it
      expect_as_naive(model, pairs, "embed:position",
                      to("logits", {"L0.v[h=0]", "L0.mlp_in", "L1.v L1.q[h=0]"}), options);
    if (config.experts.count > 0) {
      expect_as_naive(model, pairs, "expert_out:layer,expert", to("logits"), options);
    } else if (config.norm_place == NormPlace::before) {
      expect_as_naive(model, pairs, "mlp_post:layer,neuron", to(end + ".v[h=0]"), options);
    }
  }
}

TEST(PathPatch, SetsOfSendersOtherMetricsAndAblations) {
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 4, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 6, 2);
  const std::vector<std::string> sets = {"L0.z[h=0;t=1,3] L0.mlp_out[t=2] embed[t=1]",
                                         "L0.z L0.mlp_out"};
  const Paths paths = paths_to("L1.q[h=0] L1.mlp_in", {}, PathMlps::recomputed, config);
  for (const char* metric : {"kl", "loss", "sink:1", "norm:L1.mlp_out"}) {
    for (const ReplacementKind kind :
         {ReplacementKind::other, ReplacementKind::mean, ReplacementKind::zero}) {
      PatchOptions options{.metric = parse_metric(metric), .raw = true};
      options.replacement.kind = kind;
      Paths own = paths;
      if (options.metric.kind == MetricKind::attention) own.receivers.pop_back();
      std::vector<SiteSet> senders;
      for (const std::string& set : sets) senders.push_back(parse_site_set(set, config.layers));
      const PatchReport report = path_patch(model, pairs, {sweep_of_sets(senders)}, own, options);
      EXPECT_EQ(
          foresee_path_patch(model, pairs, {sweep_of_sets(senders)}, own, options).evaluations,
          report.evaluations);
      for (std::size_t i = 0; i < senders.size(); ++i) {
        const at::Tensor naive = test::naive_paths(model, pairs, senders[i].sites, own, options);
        EXPECT_LT((report.sweeps.front().each[static_cast<std::int64_t>(i)] - naive)
                      .abs()
                      .max()
                      .item<double>(),
                  tolerance)
            << metric << " " << sets[i];
      }
    }
  }
}

TEST(PathPatch, WhatAllSendersSendIsTheOtherRun) {
  // Everything that writes to the stream, sent to the logits, is the other run's final stream.
  const ModelConfig config = test::random_config(2);
  const Model model = test::toy_model(config, 2, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 3, 6, 2);
  const PatchReport report = path_patch(
      model, pairs, {sweep_of_sets({parse_site_set("embed L*.z L*.mlp_out", config.layers)})},
      paths_to("logits", {}, PathMlps::frozen, config), {});
  EXPECT_NEAR(report.sweeps.front().values[0].item<double>(), 1.0, tolerance);
}

TEST(PathPatch, TheSameBitsForAnyNumberOfThreads) {
  const ModelConfig config = test::random_config(4);
  const Pairs pairs = test::toy_pairs(config, 4, 9, 3);
  std::vector<at::Tensor> results;
  for (const int threads : {1, 3}) {
    const Model model = test::toy_model(config, 4, {.dtype = at::kFloat, .threads = threads});
    results.push_back(path_patch(model, pairs, {parse_sweep("z:layer,head,position")},
                                 paths_to("L1.q L1.mlp_in", {}, PathMlps::recomputed, config))
                          .sweeps.front()
                          .each);
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
}

TEST(PathPatch, RefusesWhatCannotBe) {
  const ModelConfig config = test::random_config(0);
  const Model model = test::toy_model(config, 0, {.dtype = at::kDouble, .threads = 1});
  const Pairs pairs = test::toy_pairs(config, 2, 5, 1);
  const auto refusal = [&](const std::string& senders, const std::string& receivers,
                           const std::vector<std::string>& via = {},
                           const PatchOptions& options = {.raw = true}) {
    try {
      const SweepSpec spec = senders.find(':') != std::string::npos
                                 ? parse_sweep(senders)
                                 : sweep_of_sets({parse_site_set(senders, config.layers)});
      path_patch(model, pairs, {spec}, paths_to(receivers, via, PathMlps::frozen, config), options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refusal("q:layer,head", "logits"), "writes nothing to the stream");
  has(refusal("z:layer,head", "L0.z"), "is no receiver");
  has(refusal("z:layer,head", "L0.q"), "nothing that z writes arrives");
  has(refusal("L1.z[h=0]", "L1.q"), "nothing that the sender L1.z[h=0] writes arrives");
  has(refusal("z:layer,head", "logits L1.q"), "stands alone");
  has(refusal("z:layer,head", "L1.q[h=99]"), "index 99 does not exist");
  has(refusal("z:layer,head", "logits", {"L1.resid_mid"}), "is no node on a path");
  has(refusal("z:layer,head", "L0.mlp_in", {"L1.q"}), "arrives at the hop behind it");
  has(refusal("L0.z L0.attn_out", "logits"), "two kinds of senders");
  has(refusal("z:layer,head", "L1.mlp_in", {}, {.metric = parse_metric("sink:1"), .raw = true}),
      "is never reached");
  PatchOptions fixed{.raw = true};
  fixed.with = parse_fixed_edits("L0.z=zero", config.layers);
  has(refusal("z:layer,head", "logits", {}, fixed), "does not go with edits");
  EXPECT_EQ(refusal("z:layer,head", "L1.q", {}), "accepted");
}

}  // namespace
}  // namespace plumb
