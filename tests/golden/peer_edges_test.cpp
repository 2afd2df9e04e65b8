// EAP-IG's edge scores of two tiny models whose weights a formula gives (make_edge_goldens.py), and
// those of further prompts, which lie beside the checkout; absent, that test is skipped and says
// so.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/attribute.h"
#include "support/hash_weights.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Both sides in float64 over the same float32-exact weights.
constexpr double tolerance = 1e-10;

Pairs pairs_of(const Json& golden) {
  std::vector<PairIds> list;
  for (std::size_t b = 0; b < golden.at("answers").size(); ++b) {
    list.push_back({.clean = golden.at("tokens_clean").at(b),
                    .corrupt = golden.at("tokens_corrupt").at(b),
                    .right = golden.at("answers").at(b).at(0),
                    .wrong = golden.at("answers").at(b).at(1)});
  }
  return make_pairs(list);
}

// A row for each of the reference's senders, a column for each of its receivers, which has key and
// value heads for every query head. Times the batch, by whose size its scores are too small.
at::Tensor in_our_order(const Json& edges, const Json& scores, const EdgeSpace& space,
                        double factor) {
  at::Tensor values = at::zeros({space.edges()}, at::kDouble);
  const int group = space.heads() / space.kv_heads();
  for (std::size_t from = 0; from < edges.at("sources").size(); ++from) {
    const auto sender = space.find_sender(edges.at("sources").at(from).get<std::string>());
    for (std::size_t to = 0; to < edges.at("destinations").size(); ++to) {
      const EdgeSpace ungrouped(space.layers(), space.heads(), space.heads());
      EdgeReceiver receiver = ungrouped.receiver(
          *ungrouped.find_receiver(edges.at("destinations").at(to).get<std::string>()));
      if (receiver.kind == EdgeReceiver::Kind::k || receiver.kind == EdgeReceiver::Kind::v)
        receiver.head /= group;
      const std::int64_t index = space.index_of(receiver);
      if (*sender >= space.seen_by(index)) continue;
      values[space.first_edge(index) + *sender] += factor * scores.at(from).at(to).get<double>();
    }
  }
  return values;
}

// The reference puts interpolated embeddings, which ask for no gradient, in place of the model's.
// Where no learned position is added to them, nothing that the heads of block 0 read then has a
// gradient, and what these runs say of the edges between the two is missing from its mean.
at::Tensor left_out(const Model& model, const Pairs& pairs, int steps) {
  const EdgeScores runs = attribute_edges(
      model, pairs, {}, {.method = EdgeMethod::eap_ig, .steps = steps, .points = IgPoints::right});
  at::Tensor missing = at::zeros_like(runs.values);
  for (std::int64_t r = 0; r < runs.space.receivers(); ++r) {
    const EdgeReceiver receiver = runs.space.receiver(r);
    if (receiver.layer > 0 || receiver.kind == EdgeReceiver::Kind::mlp) continue;
    const std::int64_t edge = runs.space.first_edge(r);
    missing[edge] = runs.values[edge] / (2.0 * runs.space.layers() + 1.0);
  }
  return missing;
}

void expect_agreement(const std::filesystem::path& file, const char* kind) {
  const Json golden = Json::parse(std::ifstream(file)).at("models").at(kind);
  const Model model = test::hash_model(kind);
  const Pairs pairs = pairs_of(golden);
  const Json& edges = golden.at("edges");
  const std::vector<std::pair<const char*, EdgeOptions>> methods = {
      {"eap", {.method = EdgeMethod::eap}},
      {"clean_corrupted", {.method = EdgeMethod::clean_corrupted}},
      {"eap_ig_inputs_m5", {.method = EdgeMethod::eap_ig, .steps = 5}},
      {"eap_ig_activations_m2", {.method = EdgeMethod::eap_ig_activations, .steps = 2}}};
  for (const auto& [name, options] : methods) {
    const EdgeScores found = attribute_edges(model, pairs, {}, options);
    at::Tensor expected = in_our_order(edges, edges.at(name).at("scores"), found.space,
                                       edges.at(name).at("batch").get<double>());
    if (options.method == EdgeMethod::eap_ig_activations &&
        model.config().positions == Positions::rope)
      expected += left_out(model, pairs, options.steps);
    EXPECT_GT(expected.abs().max().item<double>(), 0.01);
    for (std::int64_t edge = 0; edge < found.space.edges(); ++edge) {
      EXPECT_NEAR(found.values[edge].item<double>(), expected[edge].item<double>(), tolerance)
          << name << " " << found.space.edge_name(edge);
    }
  }
  // One edge removed at a time. Of the reference's ungrouped key heads there is no sum that would
  // be the effect of ours.
  const EdgeScores exact = attribute_edges(model, pairs, {}, {.method = EdgeMethod::exact});
  const at::Tensor removed = in_our_order(edges, edges.at("exact").at("scores"), exact.space, 1.0);
  const bool grouped = exact.space.heads() != exact.space.kv_heads();
  std::int64_t compared = 0;
  for (std::int64_t edge = 0; edge < exact.space.edges(); ++edge) {
    const EdgeReceiver::Kind kind = exact.space.receiver(exact.space.ends(edge).receiver).kind;
    if (grouped && (kind == EdgeReceiver::Kind::k || kind == EdgeReceiver::Kind::v)) continue;
    ++compared;
    EXPECT_NEAR(exact.values[edge].item<double>(), removed[edge].item<double>(), tolerance)
        << exact.space.edge_name(edge);
  }
  EXPECT_EQ(compared, grouped ? 118 : 262);
}

class PeerEdges : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, PeerEdges, testing::Values("gpt2", "llama"));

TEST_P(PeerEdges, ScoresAgreeWithEapIg) {
  expect_agreement(test::source_dir() / "tests" / "golden" / "edges.json", GetParam());
}

TEST_P(PeerEdges, ScoresOfFurtherPromptsAgree) {
  const auto file = test::shared_dir() / "models" / "goldens" / "goldens_peers.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file.string() << " is missing";
  expect_agreement(file, GetParam());
}

}  // namespace
}  // namespace plumb
