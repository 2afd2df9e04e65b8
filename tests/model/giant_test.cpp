// A model that no machine here could hold: what can be done without reading it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoint/files.h"
#include "plumb/cost.h"
#include "plumb/error.h"
#include "plumb/run.h"
#include "support/paths.h"
#include "support/sparse_model.h"

namespace plumb::test {
namespace {

// Elements of a block: queries and output, keys and values, gate, up and down, two norms.
constexpr std::int64_t block_parameters =
    2LL * 16384 * 16384 + 2LL * 1024 * 16384 + 3LL * 53248 * 16384 + 2LL * 16384;
constexpr std::int64_t parameters = 126 * block_parameters + 2LL * 128256 * 16384 + 16384;
// What opening the headers and an embedding may add to the memory of the process.
constexpr std::int64_t little_memory = 100'000'000;

class Giant : public testing::Test {
 protected:
  void SetUp() override {
    if (!write_llama_405b(directory_)) GTEST_SKIP() << "no files of 6 GB with holes here";
    reset_peak();
    before_ = peak_bytes();
  }
  const std::filesystem::path directory_ = scratch_dir();
  std::int64_t before_ = 0;
};

TEST_F(Giant, OpensWithoutReading) {
  const Checkpoint checkpoint = Checkpoint::open(directory_);
  EXPECT_EQ(checkpoint.parameters(), parameters);
  EXPECT_EQ(checkpoint.bytes_read(), 0U);
  EXPECT_EQ(checkpoint.config().rope.scaling, RopeScaling::llama3);
  EXPECT_LT(peak_bytes() - before_, little_memory);
}

TEST_F(Giant, HasNoChecksumOfItsWeights) {
  const Model model = load(directory_);
  EXPECT_EQ(model.sha256(), "");
  EXPECT_EQ(model.headers_sha256().size(), 64U);
  EXPECT_LT(peak_bytes() - before_, little_memory);
}

TEST_F(Giant, EmbedsByReadingTheTokensRowsAlone) {
  const Model model = load(directory_, {.layers = LayerRange{0, 1}});
  const Plan plan{.record = {Site{Part::embed}}, .logits = Logits::none, .until = 0};
  const plumb::Run run = plumb::run(model, make_tokens({{0, 128255, 77, 77}, {77, 5, 0, 9}}), plan);
  EXPECT_EQ(run.cache.at({Part::embed}).sizes(), (c10::IntArrayRef{2, 4, 16384}));
  constexpr std::uint64_t distinct_tokens = 5;
  EXPECT_EQ(model.bytes_read(), distinct_tokens * 16384 * 2);
  EXPECT_LT(peak_bytes() - before_, little_memory);
}

TEST_F(Giant, ForeseesTheCostOfTwoBlocks) {
  const Model model = load(directory_, {.threads = 2, .layers = LayerRange{0, 1}});
  const Plan plan{.record = {Site{Part::resid_post, 1}}, .logits = Logits::none};
  const RunCost cost = foresee(model, 2, 16, plan);
  EXPECT_EQ(cost.evaluations, 2 * 16 * 2);
  EXPECT_EQ(cost.block_bytes, 4 * block_parameters);
  EXPECT_EQ(cost.tensor_bytes, 4LL * 53248 * 16384);
  EXPECT_EQ(cost.weight_bytes, 8 * block_parameters + 4LL * 2 * 16 * 16384);
  EXPECT_EQ(cost.result_bytes, 4LL * 2 * 16 * 16384);
}

TEST_F(Giant, SaysWhatDoesNotFitBeforeReadingIt) {
  const Model model = load(directory_, {.memory = 2'000'000'000});
  expect_error(
      [&] {
        plumb::run(model, make_tokens({{1, 2, 3}}));
      },
      ErrorKind::too_large, {"2.00 GB of memory are too few", "the largest weight takes 8.41 GB"});
  EXPECT_EQ(model.bytes_read(), 0U);
}

}  // namespace
}  // namespace plumb::test
