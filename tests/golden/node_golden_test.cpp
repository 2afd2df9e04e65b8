// Attribution patching against TransformerLens (make_node_goldens.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/attribute_nodes.h"
#include "support/golden_json.h"
#include "support/hash_weights.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Both sides in float64 over the same weights.
constexpr double tolerance = 1e-10;

TEST(NodeGolden, AgreesWithTransformerLens) {
  const Json golden = Json::parse(std::ifstream(test::source_dir() / "tests/golden/nodes.json"));
  const Pairs pairs = test::pairs_of(golden);
  ASSERT_EQ(golden.at("cases").size(), 12U);
  for (const Json& entry : golden.at("cases")) {
    SCOPED_TRACE(entry.at("model").get<std::string>() + " " +
                 entry.at("direction").get<std::string>() + " " +
                 entry.at("method").get<std::string>());
    const Model model = test::hash_model(entry.at("model"));
    std::vector<SweepSpec> nodes;
    for (const auto& [name, scores] : entry.at("scores").items())
      nodes.push_back(parse_sweep(name));
    const NodeReport report = node_report(model, pairs, nodes, {},
                                          {.method = parse_node_method(entry.at("method")),
                                           .direction = parse_direction(entry.at("direction"))});
    for (const NodeSweep& sweep : report.sweeps) {
      const at::Tensor expected = test::tensor_of(entry.at("scores").at(to_string(sweep.spec)));
      ASSERT_EQ(sweep.scores.sizes(), expected.sizes()) << to_string(sweep.spec);
      EXPECT_LT((sweep.scores - expected).abs().max().item<double>(), tolerance)
          << to_string(sweep.spec);
      EXPECT_GT(expected.abs().max().item<double>(), 1e-5);
    }
  }
}

}  // namespace
}  // namespace plumb
