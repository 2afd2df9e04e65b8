// Paths that are run, against path patching by its own engine.
#include "plumb/path_effects.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "plumb/error.h"
#include "plumb/path_patch.h"
#include "support/hash_weights.h"

namespace plumb {
namespace {

// Float64 on both sides, sums in another order.
constexpr double tolerance = 1e-10;

EdgeCircuit some_circuit(const Model& model) {
  EdgeCircuit made = empty_circuit(EdgeSpace(model.config()));
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  for (double& score : made.scores) score = normal(random);
  return pruned(top_edges(made, made.space.edges() / 2, true));
}

// The nodes that a path passes, as path patching names them.
Paths as_hops(const EdgeSpace& space, const EdgePath& path) {
  Paths made;
  for (std::size_t i = 0; i + 1 < path.edges.size(); ++i) {
    const EdgeReceiver reader = space.receiver(space.ends(path.edges[i]).receiver);
    if (reader.kind == EdgeReceiver::Kind::mlp) {
      made.via.push_back({{.site = {Part::mlp_in, reader.layer}}});
      continue;
    }
    const Part part = reader.kind == EdgeReceiver::Kind::q   ? Part::q
                      : reader.kind == EdgeReceiver::Kind::k ? Part::k
                                                             : Part::v;
    made.via.push_back({{.site = {part, reader.layer}, .slice = {.heads = {reader.head}}}});
  }
  made.receivers = {{.site = {Part::logits}}};
  return made;
}

TEST(PathEffects, AreThoseOfPathPatching) {
  const Model model = test::hash_model("gpt2");
  const Pairs pairs = test::hash_pairs();
  const EdgeCircuit circuit = some_circuit(model);
  const EdgeSpace& space = circuit.space;
  const auto paths = strongest_paths(circuit, 40);
  ASSERT_EQ(paths.size(), 40U);
  for (const char* name : {"logit_diff", "kl", "loss"}) {
    SCOPED_TRACE(name);
    const Metric metric = parse_metric(name);
    const PathEffects found = path_effects(model, space, paths, pairs, metric);
    ASSERT_EQ(found.paths.size(), paths.size());
    std::size_t longest = 0;
    for (std::size_t i = 0; i < paths.size(); i += name == std::string("loss") ? 5 : 1) {
      longest = std::max(longest, paths[i].edges.size());
      const PatchReport patched = path_patch(
          model, pairs, {sweep_of_sets({{.name = "input", .sites = {{.site = {Part::embed}}}}})},
          as_hops(space, paths[i]),
          {.direction = Direction::noising, .metric = metric, .raw = true});
      const at::Tensor expected = patched.clean - patched.sweeps[0].each[0];
      EXPECT_LT((found.paths[i].each - expected).abs().max().item<double>(), tolerance)
          << path_name(space, paths[i]);
      const double total = (patched.clean - patched.corrupt).mean().item<double>();
      EXPECT_NEAR(found.total.mean, total, tolerance);
      EXPECT_NEAR(found.paths[i].share.mean, expected.mean().item<double>() / total, tolerance);
      EXPECT_LE(found.paths[i].share.low, found.paths[i].share.mean + tolerance);
    }
    EXPECT_GT(longest, 2U);
  }
}

TEST(PathEffects, OfSharedKeysOneHeadGoesOn) {
  const Model model = test::hash_model("llama");
  const EdgeSpace space(model.config());
  ASSERT_LT(space.kv_heads(), space.heads());
  const Pairs pairs = test::hash_pairs();
  // The heads of a key head, one by one: what each writes differs.
  const auto path = [&](const char* head) {
    return EdgePath{.edges = {space.find_edge("input->a0.h0<v>").value(),
                              space.find_edge(std::string(head) + "->logits").value()}};
  };
  const PathEffects found = path_effects(model, space, {path("a0.h0"), path("a0.h1")}, pairs);
  EXPECT_GT((found.paths[0].each - found.paths[1].each).abs().max().item<double>(), 1e-4);
  EXPECT_THROW((void)path_effects(model, space, {EdgePath{.edges = {-1}}}, pairs), Error);
}

}  // namespace
}  // namespace plumb
