// Weights that do not fit are read block by block, with the same bits.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/files.h"
#include "model/model_impl.h"
#include "plumb/cost.h"
#include "plumb/error.h"
#include "plumb/run.h"
#include "support/paths.h"
#include "support/sparse_model.h"
#include "support/stored_model.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// What the process may grow by between the making of one model and of the next.
constexpr std::int64_t jitter = 500'000;

Plan some_records() {
  return {.record = {Site{Part::pattern, 3}, Site{Part::resid_post, 7}, Site{Part::mlp_out, 11}}};
}

void expect_same(const Run& came, const Run& expected, const std::string& what) {
  EXPECT_TRUE(at::equal(came.logits, expected.logits)) << what;
  for (const auto& [key, value] : expected.cache.entries()) {
    EXPECT_TRUE(at::equal(came.cache.at(key.first), value)) << what << " " << to_string(key.first);
  }
}

// A model whose memory leaves `room` for the weights of such a run.
Model with_room(const std::filesystem::path& path, const Tokens& tokens, const Plan& plan,
                std::int64_t room, int threads) {
  const Model probe = load(path, {.threads = threads});
  const RunCost cost = foresee(probe, tokens.batch(), tokens.length(), plan);
  const std::int64_t memory = probe.impl().base_bytes + overhead_bytes + jitter +
                              cost.activation_bytes + cost.result_bytes + room;
  return load(path, {.threads = threads, .memory = memory});
}

class Streaming : public testing::TestWithParam<bool> {};

TEST_P(Streaming, GivesTheBitsOfAModelThatFits) {
  const std::filesystem::path path = write_stored(GetParam());
  for (const int threads : {1, 2}) {
    // One tile that threads share, and several.
    for (const std::int64_t batch : {1, 6}) {
      const Model whole = load(path, {.threads = threads});
      const Tokens tokens = toy_tokens(whole.config(), batch, batch == 1 ? 260 : 24, 1);
      const Plan plan = some_records();
      const plumb::Run expected = run(whole, tokens, plan);
      const RunCost cost = foresee(whole, batch, tokens.length(), plan);
      for (const std::int64_t room : {cost.tensor_bytes, 3 * cost.block_bytes}) {
        const Model streamed = with_room(path, tokens, plan, room, threads);
        const std::string what = fmt::format("{} threads, batch {}, room {}", threads, batch, room);
        expect_same(run(streamed, tokens, plan), expected, what);
        // Now some are there and others are not.
        if (room > cost.block_bytes) {
          expect_same(run(streamed, tokens, plan), expected, what + ", again");
        }
      }
    }
  }
}

TEST_P(Streaming, KeepsToItsMemory) {
  const std::filesystem::path path = write_stored(GetParam());
  const Plan plan = some_records();
  const Tokens tokens = toy_tokens(stored_config(GetParam()), 9, 40, 1);
  std::uint64_t whole_bytes = 0;
  plumb::Run expected;
  RunCost cost;
  {
    const Model whole = load(path, {.threads = 2});
    expected = run(whole, tokens, plan);
    whole_bytes = whole.bytes_read();
    cost = foresee(whole, 9, 40, plan);
  }
  const Model streamed = with_room(path, tokens, plan, 3 * cost.block_bytes, 2);
  reset_peak();
  expect_same(run(streamed, tokens, plan), expected, "streamed");
  EXPECT_LT(peak_bytes(), streamed.memory());
  // Without the bound the weights alone are four times as many blocks.
  EXPECT_GE(cost.weight_bytes, 12 * cost.block_bytes);
  // Nothing is read twice in one pass.
  EXPECT_EQ(streamed.bytes_read(), whole_bytes);
}

INSTANTIATE_TEST_SUITE_P(DenseAndSparse, Streaming, testing::Bool());

TEST(Parts, HoldTheBitsOfOneRun) {
  const ModelConfig config = random_config(4);
  for (const int threads : {1, 2}) {
    const Model model = toy_model(config, 1, {.threads = threads});
    Tokens tokens = toy_tokens(config, 50, 40, 2);
    tokens.lengths = at::full({50}, 40, at::kLong);
    tokens.lengths[7] = 3;
    const Plan plan = {.record = {Site{Part::z, 1}, Site{Part::resid_post, 0}}};
    const plumb::Run expected = run(model, tokens, plan);
    for (const std::int64_t sequences : {1, 13, 20, 1000}) {
      std::int64_t next = 0;
      std::int64_t evaluations = 0;
      run_in_parts(model, tokens, plan, sequences, [&](std::int64_t first, const plumb::Run& part) {
        EXPECT_EQ(first, next);
        const std::int64_t count = part.logits.size(0);
        next += count;
        evaluations += part.evaluations;
        EXPECT_TRUE(at::equal(part.logits, expected.logits.narrow(0, first, count)));
        for (const Record& record : plan.record) {
          EXPECT_TRUE(at::equal(part.cache.at(record.site),
                                expected.cache.at(record.site).narrow(0, first, count)));
        }
      });
      EXPECT_EQ(next, 50);
      EXPECT_EQ(evaluations, expected.evaluations);
    }
  }
}

TEST(Parts, HaveAtLeastOneSequence) {
  const ModelConfig config = random_config(2);
  const Model model = toy_model(config, 1);
  expect_error([&] { run_in_parts(model, toy_tokens(config, 2, 4, 1), {}, 0, {}); },
               ErrorKind::bad_argument, {"at least 1 sequence"});
}

}  // namespace
}  // namespace plumb::test
