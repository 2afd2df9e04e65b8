// Patching keeps to a bound of memory, with the same bits, and takes what was foreseen.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/files.h"
#include "model/model_impl.h"
#include "plumb/error.h"
#include "plumb/patch_cost.h"
#include "support/sparse_model.h"
#include "support/stored_model.h"
#include "support/toy_model.h"
#include "toy_pairs.h"

namespace plumb::test {
namespace {

// What the process may grow by between the making of one model and of the next.
constexpr std::int64_t jitter = 500'000;

Pairs pairs_of(const ModelConfig& config, std::int64_t count, std::int64_t length) {
  return toy_pairs(config, count, length, 5);
}

// Sweeps whose jobs differ in what they need: many positions, heads, a block run item by item.
std::vector<SweepSpec> some_sweeps() {
  return {parse_sweep("embed:position"), parse_sweep("z:layer"), parse_sweep("q:layer,head"),
          parse_sweep("q_in:layer")};
}

std::vector<at::Tensor> values_of(const PatchReport& report) {
  std::vector<at::Tensor> values;
  for (const Sweep& sweep : report.sweeps) values.push_back(sweep.each);
  return values;
}

void expect_same(const PatchReport& came, const PatchReport& expected, const std::string& what) {
  const auto left = values_of(came);
  const auto right = values_of(expected);
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(at::equal(left[i], right[i])) << what << ", sweep " << i;
}

// A model whose memory leaves `room` for the weights where `jobs` of the experiment run together.
Model with_room(const std::filesystem::path& path, const RunCost& cost, std::int64_t room,
                int threads) {
  const Model probe = load(path, {.threads = threads});
  const std::int64_t memory = probe.impl().base_bytes + overhead_bytes + jitter +
                              cost.activation_bytes + cost.result_bytes + room;
  return load(path, {.threads = threads, .memory = memory});
}

class PatchMemory : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(DenseAndSparse, PatchMemory, testing::Bool());

TEST_P(PatchMemory, TheBitsDependOnNeitherMemoryNorThreads) {
  const std::filesystem::path path = write_stored(GetParam());
  const ModelConfig config = stored_config(GetParam());
  const Pairs pairs = pairs_of(config, 2, 12);
  const std::vector<SweepSpec> sweeps = some_sweeps();
  const Paths paths{.receivers = parse_sites("L9.q[h=1] L10.mlp_in", config.layers),
                    .mlps = PathMlps::recomputed};
  const std::vector<SweepSpec> senders = {parse_sweep("z:layer")};
  struct Case {
    const char* metric;
    int threads;
    bool blocks;  // room for three of them, else for the largest weight alone
  };
  for (const Case& one :
       {Case{"logit_diff", 1, true}, Case{"logit_diff", 3, false}, Case{"kl", 3, true}}) {
    const std::string what = fmt::format("{}, {} threads", one.metric, one.threads);
    const PatchOptions options{.metric = parse_metric(one.metric), .raw = true};
    const Model whole = load(path, {.threads = 1});
    const PatchReport expected = patch(whole, pairs, sweeps, options);
    const PatchReport along = path_patch(whole, pairs, senders, paths, options);
    const RunCost cost = foresee_patch(whole, pairs, sweeps, options);
    const Model bounded =
        with_room(path, cost, one.blocks ? 3 * cost.block_bytes : cost.tensor_bytes, one.threads);
    expect_same(patch(bounded, pairs, sweeps, options), expected, what);
    expect_same(path_patch(bounded, pairs, senders, paths, options), along, what + ", paths");
    // Weights were dropped and read again.
    EXPECT_GT(bounded.bytes_read(), whole.bytes_read()) << what;
  }
}

TEST_P(PatchMemory, KeepsToItsMemory) {
  const std::filesystem::path path = write_stored(GetParam());
  const Pairs pairs = pairs_of(stored_config(GetParam()), 24, 32);
  const PatchOptions options{.raw = true};
  for (const char* text : {"embed:position", "z:layer", "q_in:layer"}) {
    const SweepSpec sweep = parse_sweep(text);
    RunCost cost;
    {
      const Model whole = load(path, {.threads = 1});
      cost = foresee_patch(whole, pairs, {sweep}, options);
      EXPECT_GE(cost.weight_bytes, 12 * cost.block_bytes);
    }
    const Model bounded = with_room(path, cost, 3 * cost.block_bytes, 3);
    reset_peak();
    patch(bounded, pairs, {sweep}, options);
    EXPECT_LT(peak_bytes(), bounded.memory()) << to_string(sweep);
  }
}

TEST(PatchCosts, SayHowMuchIsNeededWhereNotEvenOneJobFits) {
  const std::filesystem::path path = write_stored(false);
  const Pairs pairs = pairs_of(stored_config(false), 12, 32);
  const std::vector<SweepSpec> sweeps = {parse_sweep("z:layer")};
  const Model narrow = load(path, {.threads = 2, .memory = 60'000'000});
  std::string message;
  try {
    patch(narrow, pairs, sweeps, {.raw = true});
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::too_large);
    message = error.what();
  }
  EXPECT_EQ(narrow.bytes_read(), 0U);
  EXPECT_NE(message.find("0.06 GB of memory are too few, at least"), std::string::npos) << message;
  // What it asks for is enough.
  const double needed = std::stod(message.substr(message.find("at least ") + 9));
  constexpr double rounding = 0.005;  // GB: two decimals
  const auto memory = static_cast<std::int64_t>((needed + rounding) * 1e9) + jitter;
  const Model enough = load(path, {.threads = 2, .memory = memory});
  EXPECT_EQ(patch(enough, pairs, sweeps, {.raw = true}).sweeps.size(), 1U);
}

}  // namespace
}  // namespace plumb::test
