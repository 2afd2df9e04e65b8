// Path patching against hooks on Hugging Face models (make_path_goldens.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/path_patch.h"
#include "support/golden_json.h"
#include "support/hash_weights.h"
#include "support/paths.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Both sides in float64 over the same weights.
constexpr double tolerance = 1e-10;

TEST(PathGolden, AgreesWithHooksOnTransformers) {
  const Json golden = Json::parse(std::ifstream(test::source_dir() / "tests/golden/paths.json"));
  const Pairs pairs = test::pairs_of(golden);
  ASSERT_GE(golden.at("cases").size(), 20U);
  for (const Json& entry : golden.at("cases")) {
    SCOPED_TRACE(entry.at("model").get<std::string>() + " " +
                 entry.at("senders").get<std::string>() + " to " +
                 entry.at("receivers").get<std::string>() + ", " +
                 entry.at("mlps").get<std::string>());
    const Model model = test::hash_model(entry.at("model"));
    const int layers = model.config().layers;
    Paths paths{.receivers = parse_sites(entry.at("receivers").get<std::string>(), layers),
                .mlps = parse_path_mlps(entry.at("mlps"))};
    for (const Json& hop : entry.at("via"))
      paths.via.push_back(parse_sites(hop.get<std::string>(), layers));
    const PatchReport report =
        path_patch(model, pairs, {parse_sweep(entry.at("senders"))}, paths, {.raw = true});
    const at::Tensor expected = test::tensor_of(entry.at("values"));
    const at::Tensor& found = report.sweeps.front().values;
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LT((found - expected).abs().max().item<double>(), tolerance);
  }
}

}  // namespace
}  // namespace plumb
