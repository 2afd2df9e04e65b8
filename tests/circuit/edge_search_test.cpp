// ACDC on a model whose circuit is wired, and against the algorithm's own words.
#include "plumb/edge_search.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plumb/error.h"
#include "plumb/evaluate.h"
#include "support/hash_weights.h"

namespace plumb {
namespace {

using Names = std::vector<std::string>;

Names names_of(const EdgeCircuit& circuit) {
  Names names;
  for (std::int64_t edge = 0; edge < circuit.space.edges(); ++edge) {
    if (circuit.in[static_cast<std::size_t>(edge)] != 0)
      names.push_back(circuit.space.edge_name(edge));
  }
  return names;
}

// Tokens lie on the axes 0 to 3. Head 0 of block 0 attends to all alike and copies them to the axes
// 4 to 7; MLP 0 writes what it finds there to 8 to 11; head 1 of block 1 copies that to 12 to 15,
// which the unembedding reads. Everything else writes nothing.
Model wired() {
  ModelConfig config;
  config.family = "wired";
  config.layers = 2;
  config.heads = config.kv_heads = 2;
  config.d_model = 16;
  config.d_head = 8;
  config.d_mlp = 8;
  config.vocab = 4;
  config.context = 16;
  config.gated_mlp = false;
  config.tied = false;
  config.activation = Activation::relu;
  config.rope.dims = 8;
  const auto source = [config](Weight weight, int layer) -> at::Tensor {
    const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
    if (shape.empty()) return {};
    const bool gain =
        weight == Weight::ln1 || weight == Weight::ln2 || weight == Weight::final_norm;
    at::Tensor made = gain ? at::ones(shape, at::kDouble) : at::zeros(shape, at::kDouble);
    for (std::int64_t i = 0; i < 4; ++i) {
      if (weight == Weight::embed) made[i][i] = 1.0;
      if (weight == Weight::unembed) made[i][12 + i] = 4.0;
      if (weight == Weight::v && layer == 0) made[i][i] = 1.0;  // head 0
      if (weight == Weight::out && layer == 0) made[4 + i][i] = 2.0;
      if (weight == Weight::up && layer == 0) made[i][4 + i] = 1.0;
      if (weight == Weight::down && layer == 0) made[8 + i][i] = 1.0;
      if (weight == Weight::v && layer == 1) made[8 + i][8 + i] = 1.0;  // head 1
      if (weight == Weight::out && layer == 1) made[12 + i][8 + i] = 2.0;
    }
    return made;
  };
  return {config, source, "wired", {.dtype = at::kDouble}};
}

Pairs wired_pairs() {
  return make_pairs({{.clean = {0, 1, 2}, .corrupt = {0, 3, 2}, .right = 1, .wrong = 3},
                     {.clean = {2, 3, 0}, .corrupt = {2, 1, 0}, .right = 3, .wrong = 1}});
}

TEST(CircuitSearch, FindsTheWiredCircuitAndNothingElse) {
  const Model model = wired();
  const Names circuit = {"input->a0.h0<v>", "a0.h0->m0", "m0->a1.h1<v>", "a1.h1->logits"};
  for (const char* metric : {"kl", "logit_diff"}) {
    // What the norms carry of other edges is below the threshold; without one of these the answer
    // is gone.
    const CircuitSearch found =
        search_circuit(model, full_circuit(EdgeSpace(model.config())), wired_pairs(),
                       {.metric = parse_metric(metric)}, {.threshold = 0.02});
    EXPECT_EQ(names_of(found.circuit), circuit) << metric;
    EXPECT_NEAR(found.start_loss, 0.0, 1e-12);
    EXPECT_LT(found.loss, 0.1);
    EXPECT_LT(found.evaluations, found.naive_evaluations);
    EXPECT_GT(found.tried, 4);
  }
}

// arXiv:2304.14997, Algorithm 1: from the output back, each parent's edge is taken out, and put
// back if the divergence rises by the threshold or more.
EdgeCircuit by_its_words(const Model& model, EdgeCircuit circuit, const Pairs& pairs,
                         const Metric& metric, double threshold) {
  const EdgeSpace& space = circuit.space;
  const auto divergence = [&](const EdgeCircuit& of) {
    return run_edges(model, space, {of.in}, pairs, {.metric = metric})
        .each[0]
        .mean()
        .item<double>();
  };
  double now = divergence(circuit);
  for (std::int64_t r = space.receivers() - 1; r >= 0; --r) {
    for (std::int64_t s = space.seen_by(r) - 1; s >= 0; --s) {
      const auto edge = static_cast<std::size_t>(space.first_edge(r) + s);
      if (circuit.in[edge] == 0) continue;
      circuit.in[edge] = 0;
      const double then = divergence(circuit);
      if (then - now < threshold) {
        now = then;
      } else {
        circuit.in[edge] = 1;
      }
    }
  }
  return pruned(circuit);
}

TEST(CircuitSearch, DoesWhatTheAlgorithmSays) {
  std::vector<PairIds> list;
  for (std::int64_t b = 0; b < 3; ++b) {
    PairIds pair{.right = 5 + b, .wrong = 60 + b};
    for (std::int64_t t = 0; t < 5; ++t) pair.clean.push_back((b * 31 + t * 17) % 97);
    pair.corrupt = pair.clean;
    pair.corrupt[1] = (pair.corrupt[1] + 40) % 97;
    list.push_back(pair);
  }
  const Pairs pairs = make_pairs(list);
  constexpr double threshold = 2e-2;
  const Model model = test::hash_model("gpt2");
  const EdgeCircuit start = full_circuit(EdgeSpace(model.config()));
  const CircuitSearch found =
      search_circuit(model, start, pairs, {.metric = parse_metric("kl")}, {.threshold = threshold});
  const EdgeCircuit expected = by_its_words(model, start, pairs, parse_metric("kl"), threshold);
  EXPECT_EQ(names_of(found.circuit), names_of(expected));
  EXPECT_GT(count_edges(found.circuit), 0);
  EXPECT_LT(count_edges(found.circuit), count_edges(start) / 2);
}

TEST(CircuitSearch, BeginsWhereItIsTold) {
  const Model model = wired();
  const EdgeSpace space(model.config());
  EdgeCircuit start = empty_circuit(space);
  for (const char* name : {"input->a0.h0<v>", "a0.h0->m0", "m0->a1.h1<v>", "a1.h1->logits",
                           "input->m0", "m0->logits", "input->a0.h1<v>"})
    start.in[static_cast<std::size_t>(space.find_edge(name).value())] = 1;
  const CircuitSearch found = search_circuit(model, start, wired_pairs(),
                                             {.metric = parse_metric("kl")}, {.threshold = 0.02});
  EXPECT_EQ(count_edges(found.circuit), 4);
  EXPECT_LE(found.tried, 8);
}

}  // namespace
}  // namespace plumb
