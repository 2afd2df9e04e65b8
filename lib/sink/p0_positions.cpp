// B6, B10, C11, A8: position ids, masks, repeated tokens.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/random.h"
#include "sink/p0_catalogue_runs.h"
#include "sink/reductions.h"

namespace plumb::p0 {

namespace {

constexpr std::int64_t far_id = 50;  // how far a single id is moved
constexpr std::int64_t most_repeats = 8;
constexpr std::int64_t widest_gap = 4;  // between redrawn ids

Tokens with_positions(const P0Bench& bench, std::vector<std::int64_t> positions) {
  Tokens tokens = bench.context.inputs.tokens;
  tokens.positions = std::move(positions);
  return tokens;
}

std::vector<std::int64_t> counted(std::int64_t length) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(length));
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

// Scores with the queries before `prefix` seeing every key before it, from queries and keys as
// they meet; causal elsewhere.
at::Tensor prefix_scores(const ModelConfig& config, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& causal, std::int64_t prefix) {
  const std::int64_t group = config.heads / config.kv_heads;
  const at::Tensor keys = k.repeat_interleave(group, 2).permute({0, 2, 3, 1});
  const double factor = config.attention_scale > 0.0
                            ? config.attention_scale
                            : 1.0 / std::sqrt(static_cast<double>(config.d_head));
  at::Tensor scores = q.permute({0, 2, 1, 3}).matmul(keys) * factor;
  if (config.score_cap > 0.0) scores = config.score_cap * at::tanh(scores / config.score_cap);
  at::Tensor result = causal.clone();
  const auto part = [&](const at::Tensor& all) {
    return all.narrow(2, 0, prefix).narrow(3, 0, prefix);
  };
  part(result).copy_(part(scores));
  return result;
}

// The run with a bidirectional prefix in the layers [0, layers): block by block, since what a block
// scores depends on the edited block before it. The first layers' share of what each key draws, and
// the stream after them.
Outcome with_prefix(P0Bench& bench, std::int64_t prefix, int layers) {
  const Model& model = bench.context.model;
  const Tokens& tokens = bench.context.inputs.tokens;
  at::Tensor stream = bench.context.stream(0);
  Outcome outcome;
  for (std::size_t i = 0; i < bench.context.waves.size(); ++i) outcome.onset_norm.emplace_back();
  const auto total = bench.context.layers();
  for (int layer = 0; layer < total; ++layer) {
    Plan plan{.logits = Logits::none};
    plan.restart = Restart{.layer = layer, .resid_pre = stream};
    plan.until = layer + 1;
    if (layer < layers) {
      plan.record = {Site{Part::q, layer}, Site{Part::k, layer}, Site{Part::scores, layer}};
      const Run plain = plumb::run(model, tokens, plan);
      bench.context.evaluations += plain.evaluations;
      plan.record.clear();
      const at::Tensor scores = prefix_scores(model.config(), plain.cache.at({Part::q, layer}),
                                              plain.cache.at({Part::k, layer}),
                                              plain.cache.at({Part::scores, layer}), prefix);
      plan.interventions.push_back(
          {.site = {Part::scores, layer}, .where = {}, .edit = Put{scores}});
    }
    const auto queries = bench.context.options.sink.queries;
    plan.record.push_back({Site{Part::pattern, layer}, "received", received(queries)});
    plan.record.push_back({Site{Part::pattern, layer}, "by_head", received_by_head(queries)});
    plan.record.push_back({Site{Part::resid_post, layer}});
    const Run run = plumb::run(model, tokens, plan);
    bench.context.evaluations += run.evaluations;
    for (std::size_t i = 0; i < bench.context.waves.size(); ++i) {
      if (bench.context.waves[i].onset != layer) continue;
      outcome.onset_norm[i] = at::linalg_vector_norm(stream, 2, c10::IntArrayRef{-1}).cpu();
    }
    outcome.received.push_back(run.cache.at({Part::pattern, layer}, "received").cpu());
    outcome.rate.push_back(run.cache.at({Part::pattern, layer}, "by_head")
                               .gt(bench.context.options.sink.epsilon)
                               .to(at::kFloat)
                               .mean(1)
                               .cpu());
    stream = run.cache.at({Part::resid_post, layer});
  }
  return outcome;
}

// Mean of what each key draws over the wave's layers, [T], when the same token stands everywhere.
at::Tensor drawn_when_equal(P0Bench& bench) {
  Tokens tokens = bench.context.inputs.tokens;
  tokens.ids = tokens.ids.select(1, 0).unsqueeze(1).expand_as(tokens.ids).contiguous();
  const Outcome outcome = bench.context.intervene_tokens(tokens, {}, bench.wave().last + 1);
  at::Tensor drawn = at::zeros({bench.length()}, at::kDouble);
  for (int layer = bench.wave().onset; layer <= bench.wave().last; ++layer)
    drawn = drawn + outcome.received[static_cast<std::size_t>(layer)].mean(0).to(at::kDouble);
  return drawn / static_cast<double>(bench.wave().last - bench.wave().onset + 1);
}

// The first token n times, then the rest of the text, as long as it was.
Tokens repeated(const Tokens& tokens, std::int64_t n) {
  Tokens result = tokens;
  const at::Tensor first = tokens.ids.narrow(1, 0, 1).expand({-1, n});
  result.ids = at::cat({first, tokens.ids.narrow(1, 1, tokens.length() - n)}, 1);
  return result;
}

}  // namespace

void position_ids(P0Bench& bench) {
  const std::int64_t T = bench.length();
  const auto& config = bench.context.model.config();
  const std::int64_t room =
      config.positions == Positions::learned ? config.context - 1 : std::int64_t{1} << 20;
  const std::vector<std::int64_t> plain = counted(T);
  const auto capped = [&](std::int64_t id) { return std::min(id, room); };

  auto moved = plain;
  moved[0] = capped(T - 1 + far_id);
  bench.run_tokens("id of position 0 moved away", "edit", "P0", with_positions(bench, moved), {});
  moved = plain;
  moved[static_cast<std::size_t>(bench.other())] = capped(T - 1 + far_id);
  bench.run_tokens("id of another position moved away", "other position",
                   at_position(bench.other()), with_positions(bench, moved), {});
  moved = plain;
  for (std::size_t t = 1; t < moved.size(); ++t) moved[t] = capped(moved[t] + far_id);
  bench.run_tokens("a gap behind position 0", "edit", "P0", with_positions(bench, moved), {});
  Random random = Random(bench.context.options.seed).fork(61);
  moved = plain;
  for (std::size_t t = 1; t < moved.size(); ++t)
    moved[t] = capped(moved[t - 1] + 1 + random.below(widest_gap));
  bench.run_tokens("all ids redrawn in order, with gaps", "edit", "all",
                   with_positions(bench, moved), {});
  moved = plain;
  std::swap(moved[0], moved[static_cast<std::size_t>(bench.other())]);
  bench.run_tokens(fmt::format("ids of position 0 and {} exchanged", bench.other()), "edit", "P0",
                   with_positions(bench, moved), {});
  const P0Reading exchanged = bench.at(4);
  bench.run_tokens(fmt::format("ids of position 0 and {} exchanged", bench.other()),
                   "other position", at_position(bench.other()), with_positions(bench, moved), {},
                   bench.other());
  bench.find(fmt::format(
      "with the ids of position 0 and {} exchanged, column 0 loses {:.0f} % of its excess and "
      "column {} draws {:.3f}",
      bench.other(), 100 * exchanged.removed.mean, bench.other(), bench.at(5).effect.value.mean));
}

void mask_scan(P0Bench& bench) {
  const std::int64_t T = bench.length();
  const int layers = bench.context.layers();
  const int early = std::max(1, bench.wave().onset);
  for (const bool everywhere : {false, true}) {
    const int last = everywhere ? layers : early;
    const std::string where = everywhere ? "all layers" : fmt::format("layers 0-{}", early - 1);
    for (std::int64_t window = 2; window < T; window *= 2) {
      std::vector<Intervention> edits;
      const Edit narrow = Custom{
          "window", [window](const at::Tensor& scores) {
            const at::Tensor index = at::arange(
                scores.size(2), at::TensorOptions().dtype(at::kLong).device(scores.device()));
            const at::Tensor hidden = (index.unsqueeze(1) - index.unsqueeze(0)).ge(window);
            return scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
          }};
      for (int layer = 0; layer < last; ++layer)
        edits.push_back({.site = {Part::scores, layer}, .where = {}, .edit = narrow});
      bench.run(fmt::format("window of {}", window), "edit", where, edits);
    }
  }
  if (bench.context.model.config().positions == Positions::alibi) {
    bench.find("prefix masks were not tried: the bias on the scores has no value for later keys");
    return;
  }
  for (const std::int64_t prefix : {std::int64_t{2}, std::int64_t{8}, T}) {
    if (prefix > T) continue;
    for (const bool everywhere : {false, true}) {
      const int last = everywhere ? layers : early;
      const Outcome outcome = with_prefix(bench, prefix, last);
      bench.keep_outcome(outcome,
                         prefix == T ? std::string("no causal mask")
                                     : fmt::format("the first {} see each other", prefix),
                         "edit", everywhere ? "all layers" : fmt::format("layers 0-{}", early - 1));
    }
  }
}

void repetition(P0Bench& bench) {
  const at::Tensor drawn = drawn_when_equal(bench);
  bench.array("drawn_when_all_equal", {"position"}, drawn,
              "mean attention that each key draws over the wave's layers, one token everywhere");
  const std::int64_t readable = bench.length() / 2;
  const at::Tensor expected = at::empty({readable}, at::kDouble);
  for (std::int64_t t = 0; t < readable; ++t) expected[t] = bench.context.null_at(t);
  const double largest = (drawn.narrow(0, 0, readable) - expected).abs().max().item<double>();
  bench.find(
      fmt::format("one token everywhere: position 0 draws {:.3f}, and no key of the first "
                  "half draws more than {:.3f} beyond uniform attention",
                  drawn[0].item<double>(), largest));
  std::vector<at::Tensor> rows;
  const std::int64_t most = std::min(most_repeats, bench.length() / 2);
  for (std::int64_t n = 1; n <= most; ++n) {
    const Outcome outcome = bench.context.intervene_tokens(repeated(bench.context.inputs.tokens, n),
                                                           {}, bench.wave().last + 1);
    at::Tensor sum = at::zeros({most}, at::kDouble);
    for (int layer = bench.wave().onset; layer <= bench.wave().last; ++layer)
      sum = sum + outcome.received[static_cast<std::size_t>(layer)]
                      .narrow(1, 0, most)
                      .mean(0)
                      .to(at::kDouble);
    rows.push_back(sum / static_cast<double>(bench.wave().last - bench.wave().onset + 1));
  }
  bench.array("drawn_by_repeats", {"repeats", "position"}, at::stack(rows),
              "row n - 1: the first token n times; mean attention that each key draws");
}

void first_token_repeat(P0Bench& bench) {
  const std::int64_t most = std::min(most_repeats, bench.length() / 2);
  std::vector<double> losses;
  for (std::int64_t n = 1; n <= most; ++n) {
    const Tokens tokens = repeated(bench.context.inputs.tokens, n);
    // Losses on the repeats, and the prediction of the first token behind them, are left out for
    // every n alike.
    Plan plan{.record = {record_loss(most)}, .logits = Logits::none};
    const Run run = plumb::run(bench.context.model, tokens, plan);
    bench.context.evaluations += run.evaluations;
    const Estimate loss =
        bootstrap(run.cache.at({Part::logits}, "loss").cpu(), bench.context.options.seed);
    losses.insert(losses.end(), {loss.mean, loss.low, loss.high});
  }
  bench.array("loss", {"repeats", "mean_low_high"}, at::tensor(losses, at::kDouble).view({most, 3}),
              fmt::format("nats per token from position {} on; row n - 1: the first token n times",
                          most + 1));
  bench.find(fmt::format("the first token {} times instead of once changes the loss by {:+.3f}",
                         most, losses[losses.size() - 3] - losses[0]));
}

}  // namespace plumb::p0
