// Two small trained Llama models beside the checkout, against a float64 pass over their original
// weights. Absent, the tests are skipped and say what is missing.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "plumb/metrics.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "support/paths.h"

namespace plumb {
namespace {

// Float64 against float64, and about ten times the measured float32 gap of each quantity.
constexpr double double_tolerance = 1e-10;
constexpr double float_logit_tolerance = 1e-4;
constexpr double float_loss_tolerance = 5e-5;

class TrainedLlama : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, TrainedLlama, testing::Values("stories260K", "llama2xs-281K"));

TEST_P(TrainedLlama, LossesAndLogitsAreTheReferenceOnes) {
  const auto directory = test::shared_dir() / "models" / GetParam();
  if (!std::filesystem::exists(directory / "reference.json")) {
    GTEST_SKIP() << (directory / "reference.json").string() << " is missing";
  }
  const auto expected = nlohmann::json::parse(std::ifstream(directory / "reference.json"));
  const std::vector<std::int64_t> ids = expected.at("ids");
  const std::vector<double> nll = expected.at("nll_per_position");
  const std::vector<double> last = expected.at("last_position_logits");
  const Tokens tokens = make_tokens({ids});
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Model model = load(directory / "derived-hf", {.dtype = dtype});
    const at::Tensor logits = plumb::run(model, tokens).logits;
    const at::Tensor loss = token_loss(logits, tokens.ids)[0].to(at::kDouble);
    const at::Tensor final_logits = logits[0][-1].to(at::kDouble);
    const bool exact = dtype == at::kDouble;
    EXPECT_LT((loss - at::tensor(nll, at::kDouble)).abs().max().item<double>(),
              exact ? double_tolerance : float_loss_tolerance);
    EXPECT_LT((final_logits - at::tensor(last, at::kDouble)).abs().max().item<double>(),
              exact ? double_tolerance : float_logit_tolerance);
  }
}

}  // namespace
}  // namespace plumb
