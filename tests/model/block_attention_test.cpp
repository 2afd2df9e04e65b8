// Attention block by block against the same from whole scores and patterns.
#include "model/block_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "model/streamed_plan.h"
#include "plumb/cost.h"
#include "plumb/metrics.h"
#include "plumb/streamed.h"
#include "support/toy_model.h"

namespace plumb {
namespace {

constexpr double rounding = 1e-12;  // float64, sums of some tens of terms near 1
// Of float32 scores of up to 10, whose exps are off by up to 10 times 2^-24 each.
constexpr double float_rounding = 1e-5;
// Through the blocks of a model, in which differences of 1e-15 grow.
constexpr double model_rounding = 1e-9;

struct Case {
  std::string name = {};
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  double cap = 0;
  std::int64_t window = 0;
  bool chunked = false;
  bool slopes = false;
  bool sinks = false;
  bool hidden = false;  // position 0, from every second query of the later heads
};

// So that the test's names are the cases'.
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Blocks : public testing::TestWithParam<Case> {
 protected:
  static constexpr std::int64_t B = 2, T = 37, d = 8;
  const Case& c = GetParam();

  BlockAttention inputs(at::ScalarType type) const {
    at::manual_seed(7);
    const auto random = [&](std::int64_t heads) {
      return at::randn({B, T, heads, d}, at::kDouble).to(type);
    };
    BlockAttention in{.q = random(c.heads),
                      .k = random(c.kv_heads),
                      .v = random(c.kv_heads),
                      .factor = 1.3,
                      .cap = c.cap,
                      .window = c.window,
                      .chunked = c.chunked};
    if (c.slopes) {
      in.slopes = at::linspace(0.05, 0.4, c.heads, at::kDouble);
      in.positions = at::arange(T, at::kDouble);
    }
    if (c.hidden) {
      in.first_unseen = at::zeros({c.heads, T}, at::kBool);
      for (std::int64_t q = 2; q < T; q += 2)
        in.first_unseen.narrow(0, 1, c.heads - 1).select(1, q).fill_(true);
    }
    if (c.sinks) in.sinks = at::linspace(-1.0, 3.0, c.heads, at::kDouble).to(type);
    return in;
  }

  // Scores [B, H, T, T], written out.
  at::Tensor scores(const BlockAttention& in) const {
    const auto G = c.heads / c.kv_heads;
    const at::Tensor keys = in.k.to(at::kDouble).repeat_interleave(G, 2);
    at::Tensor s = at::einsum("bqhd,bkhd->bhqk", {in.q.to(at::kDouble), keys}) * in.factor;
    if (c.cap > 0) s = (s / c.cap).tanh() * c.cap;
    const at::Tensor index = at::arange(T, at::kLong);
    const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
    if (c.slopes) s = s - in.slopes.view({-1, 1, 1}) * distance;
    at::Tensor unseen = distance < 0;
    if (c.window > 0) {
      const at::Tensor chunk = index.div(c.window, "floor");
      unseen = unseen.logical_or(c.chunked ? chunk.unsqueeze(1).ne(chunk.unsqueeze(0))
                                           : distance >= c.window);
    }
    s = s.masked_fill(unseen, -std::numeric_limits<double>::infinity());
    if (c.hidden) {
      s.select(3, 0).masked_fill_(in.first_unseen.unsqueeze(0),
                                  -std::numeric_limits<double>::infinity());
    }
    return s;
  }

  void agree(at::ScalarType type, double tolerance, const BlockSizes& sizes) const {
    const BlockAttention in = inputs(type);
    const at::Tensor s = scores(in);
    at::Tensor total = s.exp().sum(3, true);
    const at::Tensor log_sum_exp = total.log().squeeze(3);
    if (c.sinks) total = total + in.sinks.to(at::kDouble).view({1, -1, 1, 1}).exp();
    const at::Tensor pattern = s.exp() / total;
    const at::Tensor values = in.v.to(at::kDouble).repeat_interleave(c.heads / c.kv_heads, 2);
    const at::Tensor z = at::einsum("bhqk,bkhd->bqhd", {pattern, values});

    const Tile tile{.ids = at::zeros({B, T}, at::kLong),
                    .lengths = at::tensor({37, 20}, at::kLong)};
    BlockWants wants{.rows = true};
    std::vector<at::Tensor> columns;
    for (const bool own : {false, true}) {
      const at::Tensor chosen = at::arange(T, at::kLong).unsqueeze(0) < tile.lengths.unsqueeze(1);
      wants.columns.push_back({chosen, own});
      const at::Tensor counted = own ? pattern : pattern.tril(-1);
      columns.push_back((counted * chosen.view({B, 1, T, 1})).sum(2));
    }
    const BlockResult made = attend_blocks(in, wants, sizes);
    const auto near = [&](const at::Tensor& a, const at::Tensor& b, const char* what) {
      EXPECT_LT((a.to(at::kDouble) - b).abs().max().item<double>(), tolerance) << what;
    };
    near(made.z, z, "z");
    near(made.log_sum_exp, log_sum_exp, "log-sum-exp");
    near(made.columns[0], columns[0], "columns");
    near(made.columns[1], columns[1], "columns with a query's own");
    const at::Tensor entropy = at::xlogy(pattern, pattern).sum(3).neg();
    const auto row = [&](RowStatistic which) {
      return made.rows.select(2, static_cast<std::int64_t>(which));
    };
    near(row(RowStatistic::sink), pattern.select(3, 0), "sink");
    near(row(RowStatistic::entropy), entropy, "entropy");
    near(row(RowStatistic::top), std::get<0>(pattern.max(3)), "top");
    EXPECT_TRUE(at::equal(row(RowStatistic::top_key).to(at::kLong), pattern.argmax(3)));
  }
};

TEST_P(Blocks, AreTheWholePattern) {
  agree(at::kDouble, rounding, {.rows = 12, .keys = 5, .units = 7});
  agree(at::kDouble, rounding, {.rows = 8, .keys = 64, .units = 1});
  agree(at::kDouble, rounding, {});
  agree(at::kFloat, float_rounding, {.rows = 12, .keys = 5, .units = 7});
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, Blocks,
    testing::Values(Case{.name = "plain"}, Case{.name = "head_of_its_own", .kv_heads = 4},
                    Case{.name = "one_key_head", .kv_heads = 1}, Case{.name = "cap", .cap = 3.0},
                    Case{.name = "window", .window = 6},
                    Case{.name = "chunks", .window = 6, .chunked = true},
                    Case{.name = "alibi", .slopes = true},
                    Case{.name = "sink_logits", .sinks = true},
                    Case{.name = "hidden_first", .hidden = true},
                    Case{.name = "hidden_first_in_window", .window = 6, .hidden = true},
                    Case{.name = "all", .cap = 4.0, .window = 9, .slopes = true, .sinks = true}),
    [](const auto& info) { return info.param.name; });

// Every statistic, from whole tensors if `whole` is set.
Plan statistics_plan(const ModelConfig& config, bool whole) {
  Plan plan{.logits = Logits::none};
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto valid = [](const at::Tensor& lengths, std::int64_t T) {
      return at::arange(T, lengths.options()).unsqueeze(0) < lengths.unsqueeze(1);
    };
    const auto plain = [](const at::Tensor& value, const Tile&) { return value; };
    plan.record.push_back({Site{Part::pattern, layer}, "own", ReceivedAttention{valid, true}});
    plan.record.push_back({Site{Part::pattern, layer}, "other", ReceivedAttention{valid, false}});
    plan.record.push_back({Site{Part::pattern, layer}, "rows", AttentionRows{plain}});
    plan.record.push_back({Site{Part::scores, layer}, "lse", LogSumExp{plain}});
    if (whole) {
      plan.record.push_back(
          {Site{Part::pattern, layer}, "whole",
           [](const at::Tensor& p, const Tile&) { return p.select(3, 0).contiguous(); }});
    }
    EXPECT_EQ(streams_attention(plan, layer, shortest_streamed, true), !whole);
    EXPECT_FALSE(streams_attention(plan, layer, shortest_streamed - 1, true));
  }
  plan.record.emplace_back(Site{Part::resid_final});
  plan.record.push_back(record_loss());
  return plan;
}

TEST(LongRuns, StreamToTheSameStatisticsInEveryKindOfModel) {
  constexpr std::int64_t T = shortest_streamed + 30;
  int tried = 0;
  for (int kind = 0; kind < test::config_kinds; ++kind) {
    ModelConfig config = test::any_config(static_cast<std::uint64_t>(kind));
    config.context = std::max(config.context, static_cast<int>(T));
    SCOPED_TRACE(kind);
    const Model model = test::toy_model(config, 5, {.dtype = at::kDouble, .threads = 1});
    Tokens tokens = test::toy_tokens(config, 1, T, 9);
    const auto streamed = run(model, tokens, statistics_plan(config, false));
    const auto whole = run(model, tokens, statistics_plan(config, true));
    for (const auto& [key, value] : streamed.cache.entries()) {
      const at::Tensor& other = whole.cache.at(key.first, key.second);
      ASSERT_EQ(value.sizes(), other.sizes()) << key.second;
      at::Tensor difference = (value - other).abs();
      // Keys that tie but for rounding may change places.
      if (key.second == "rows") difference.select(2, 2).fill_(0.0);
      EXPECT_LT(difference.max().item<double>(), model_rounding)
          << to_string(key.first) << " " << key.second;
    }
    ++tried;
  }
  EXPECT_EQ(tried, test::config_kinds);
}

TEST(LongRuns, HonourPaddingAndGiveTheSameBitsOnAnyNumberOfThreads) {
  constexpr std::int64_t T = shortest_streamed + 5;
  const ModelConfig config = test::random_config(4);
  const Model alone = test::toy_model(config, 5, {.dtype = at::kFloat, .threads = 1});
  const Model together = test::toy_model(config, 5, {.dtype = at::kFloat, .threads = 3});
  Tokens tokens = test::toy_tokens(config, 2, T, 9);
  tokens.lengths = at::tensor({T, T / 2}, at::kLong);
  const Plan plan = statistics_plan(config, false);
  const auto one = run(alone, tokens, plan);
  const auto three = run(together, tokens, plan);
  for (const auto& [key, value] : one.cache.entries()) {
    EXPECT_TRUE(at::equal(value, three.cache.at(key.first, key.second)))
        << to_string(key.first) << " " << key.second;
  }
  Tokens lone = tokens;
  lone.ids = tokens.ids.narrow(0, 1, 1);
  lone.lengths = tokens.lengths.narrow(0, 1, 1);
  const auto by_itself = run(together, lone, plan);
  const Site site{Part::pattern, 0};
  EXPECT_LT((by_itself.cache.at(site, "own")[0] - three.cache.at(site, "own")[1])
                .abs()
                .max()
                .item<double>(),
            float_rounding);
}

TEST(LongRuns, HidePositionZeroWithoutWholeScores) {
  constexpr std::int64_t T = shortest_streamed + 30;
  const ModelConfig config = test::random_config(4);
  const Model model = test::toy_model(config, 5, {.dtype = at::kDouble, .threads = 1});
  const Tokens tokens = test::toy_tokens(config, 1, T, 9);
  std::vector<std::int64_t> later;
  for (std::int64_t t = 1; t < T; ++t) later.push_back(t);
  const auto hiding = [&](bool whole, const Slice& where) {
    Plan plan = statistics_plan(config, whole);
    for (int layer = 0; layer < config.layers; ++layer) {
      plan.interventions.push_back({.site = {Part::scores, layer}, .where = where, .edit = Hide{}});
      EXPECT_EQ(streams_attention(plan, layer, T, true), !whole);
    }
    return run(model, tokens, plan);
  };
  for (const Slice& where : {Slice{.positions = later, .keys = {0}}, Slice{.keys = {0}},
                             Slice{.heads = {1}, .positions = {5, 9, T - 1}, .keys = {0}}}) {
    const auto streamed = hiding(false, where);
    const auto whole = hiding(true, where);
    for (const auto& [key, value] : streamed.cache.entries()) {
      at::Tensor difference = (value - whole.cache.at(key.first, key.second)).abs();
      if (key.second == "rows") difference.select(2, 2).fill_(0.0);
      EXPECT_LT(difference.max().item<double>(), model_rounding)
          << to_string(key.first) << " " << key.second;
    }
    const at::Tensor sink = streamed.cache.at({Part::pattern, 0}, "rows").select(2, 0).select(1, 1);
    EXPECT_EQ(sink.select(1, T - 1).max().item<double>(), 0.0);
    EXPECT_EQ(sink.select(1, 0).min().item<double>(), 1.0);
  }
  // Other keys, or other edits, still take the whole scores.
  Plan plan = statistics_plan(config, false);
  plan.interventions = {{.site = {Part::scores, 0}, .where = {.keys = {1}}, .edit = Hide{}}};
  EXPECT_FALSE(streams_attention(plan, 0, T, true));
  plan.interventions = {{.site = {Part::scores, 0}, .where = {.keys = {0}}, .edit = Zero{}}};
  EXPECT_FALSE(streams_attention(plan, 0, T, true));
}

TEST(LongRuns, TakeMemoryLinearInTheLength) {
  ModelConfig config = test::random_config(4);
  config.context = 1 << 18;
  const Model model = test::toy_model(config, 5);
  const Plan plan = statistics_plan(config, false);
  const auto bytes = [&](std::int64_t T) {
    return static_cast<double>(foresee(model, 1, T, plan).activation_bytes);
  };
  EXPECT_LT(bytes(131072), 2.05 * bytes(65536));
  Plan whole = statistics_plan(config, true);
  EXPECT_GT(static_cast<double>(foresee(model, 1, 131072, whole).activation_bytes),
            10.0 * bytes(131072));
}

}  // namespace
}  // namespace plumb
