// The runs of the P0 job: what is recorded in each, and what of it is kept.
#include <ATen/ATen.h>

#include <algorithm>

#include "sink/p0_context.h"
#include "sink/reductions.h"

namespace plumb {

namespace {

constexpr std::int64_t positions_watched = 16;  // a sequence, where logits are compared

at::Tensor log_probabilities(const at::Tensor& logits) {
  return at::log_softmax(logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
                         -1);
}

}  // namespace

Plan P0Context::reading_plan(std::optional<int> until, int first) const {
  Plan plan{.logits = Logits::none, .until = until};
  const int last = until.value_or(layers());
  for (int layer = first; layer < last; ++layer) {
    plan.record.push_back({Site{Part::pattern, layer}, "received", received(options.sink.queries)});
    if (!watched_.defined()) continue;
    plan.record.push_back(
        {Site{Part::pattern, layer}, "rate",
         [by_head = received_by_head(options.sink.queries), epsilon = options.sink.epsilon](
             const at::Tensor& pattern, const Tile& tile) {
           return by_head(pattern, tile).gt(epsilon).to(at::kFloat).mean(1);
         }});
  }
  for (const auto& wave : waves) {
    if (wave.onset >= first && wave.onset < last) {
      plan.record.push_back({Site{Part::resid_pre, wave.onset}, "norm", stream_norm()});
    }
  }
  if (!until) plan.record.push_back(record_loss(inputs.bos ? 1 : 0));
  if (!until && watched_.defined()) {
    const at::Tensor places = at::tensor(watched_positions_, at::kLong).unsqueeze(0);
    plan.record.push_back(
        {Site{Part::logits},
         "kl",
         [clean = watched_, places](const at::Tensor& logits, const Tile& tile) {
           const at::Tensor p = clean.narrow(0, tile.first, logits.size(0));
           const at::Tensor kl = (p.exp() * (p - log_probabilities(logits))).sum(-1);
           const at::Tensor counted =
               (places.to(tile.lengths.device()) < tile.lengths.unsqueeze(1)).to(at::kDouble);
           return (kl.to(at::kDouble) * counted).sum(1) / counted.sum(1).clamp_min(1.0);
         },
         {.positions = watched_positions_}});
  }
  return plan;
}

Outcome P0Context::collect(const Run& run, const Plan& plan, int first,
                           std::int64_t sequences) const {
  const auto known = [&](const at::Tensor& of_clean) {
    return sequences == all_sequences ? of_clean : of_clean.narrow(0, 0, sequences);
  };
  Outcome outcome;
  const int last = plan.until.value_or(layers());
  for (int layer = 0; layer < last; ++layer) {
    outcome.received.push_back(layer < first
                                   ? known(clean.received[static_cast<std::size_t>(layer)])
                                   : run.cache.at({Part::pattern, layer}, "received").cpu());
    if (!watched_.defined()) continue;
    outcome.rate.push_back(layer < first ? known(clean.rate[static_cast<std::size_t>(layer)])
                                         : run.cache.at({Part::pattern, layer}, "rate").cpu());
  }
  for (std::size_t w = 0; w < waves.size(); ++w) {
    const int onset = waves[w].onset;
    if (onset >= last) {
      outcome.onset_norm.emplace_back();
    } else {
      outcome.onset_norm.push_back(onset < first
                                       ? known(clean.onset_norm[w])
                                       : run.cache.at({Part::resid_pre, onset}, "norm").cpu());
    }
  }
  if (!plan.until) outcome.loss = run.cache.at({Part::logits}, "loss").cpu();
  if (!plan.until && watched_.defined()) outcome.kl = run.cache.at({Part::logits}, "kl").cpu();
  return outcome;
}

Outcome P0Context::intervene(const std::vector<Intervention>& edits, std::optional<int> until,
                             std::int64_t sequences) {
  int first = layers();
  for (const auto& edit : edits)
    first = std::min(first, per_layer(edit.site.part) ? edit.site.layer : 0);
  first = std::min(first, static_cast<int>(stream_.size()) - 1);
  Plan plan = reading_plan(until, first);
  plan.interventions = edits;
  Tokens tokens = inputs.tokens;
  at::Tensor from = stream(first);
  if (sequences != all_sequences) {
    tokens.ids = tokens.ids.narrow(0, 0, sequences);
    if (tokens.lengths.defined()) tokens.lengths = tokens.lengths.narrow(0, 0, sequences);
    from = from.narrow(0, 0, sequences);
  }
  plan.restart = Restart{.layer = first, .resid_pre = from};
  const Run run = plumb::run(model, tokens, plan);
  evaluations += run.evaluations;
  return collect(run, plan, first, sequences);
}

Outcome P0Context::intervene_displaced(const std::vector<Intervention>& edits, int until) {
  return intervene_tokens(Tokens{.ids = displaced_ids, .lengths = inputs.tokens.lengths}, edits,
                          until);
}

Outcome P0Context::intervene_tokens(const Tokens& tokens, const std::vector<Intervention>& edits,
                                    std::optional<int> until) {
  Plan plan = reading_plan(until, 0);
  plan.interventions = edits;
  const Run run = plumb::run(model, tokens, plan);
  evaluations += run.evaluations;
  return collect(run, plan, 0);
}

void P0Context::watch() {
  if (watched_.defined()) return;
  const std::int64_t last = inputs.length() - 1;
  const std::int64_t count = std::min(positions_watched, last);
  for (std::int64_t i = 1; i <= count; ++i) watched_positions_.push_back(i * last / count);
  tell("running the clean pass", 0.5);
  const int from = static_cast<int>(stream_.size()) - 1;
  Plan plan{
      .record = {{Site{Part::logits},
                  "log_p",
                  [](const at::Tensor& logits, const Tile&) { return log_probabilities(logits); },
                  {.positions = watched_positions_}}},
      .logits = Logits::none};
  plan.restart = Restart{.layer = from, .resid_pre = stream(from)};
  const Run run = plumb::run(model, inputs.tokens, plan);
  watched_ = run.cache.at({Part::logits}, "log_p");
  evaluations += run.evaluations;
  clean = intervene_tokens(inputs.tokens, {}, std::nullopt);
}

}  // namespace plumb
