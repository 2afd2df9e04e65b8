#include "sink/p0_vocabulary.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "sink/reductions.h"

namespace plumb {

namespace {

constexpr std::int64_t tokens_per_chunk = 2048;
constexpr std::int64_t exceptions_kept = 20;

// Of a sink without a spike.
constexpr std::int64_t tokens_tried = 1024;
constexpr std::int64_t sequences_tried = 4;
constexpr std::int64_t tokens_at_once = 64;
constexpr int layers_read = 2;     // of the wave
constexpr double half_sink = 0.5;  // share of the clean sink's excess that a token must draw

std::int64_t stride_of(std::int64_t vocab) { return (vocab + tokens_tried - 1) / tokens_tried; }

// A wave whose position 0 does not spike: tokens are put first in some of the sequences, and those
// count that draw at least half of the sink.
void sweep_by_attention(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  const int until = std::min(wave.last + 1, wave.onset + layers_read);
  const std::int64_t vocab = context.model.config().vocab;
  const at::Tensor tokens = at::arange(0, vocab, stride_of(vocab), at::kLong);
  const auto& inputs = context.inputs.tokens;
  const std::int64_t sequences = std::min(sequences_tried, inputs.batch());
  Plan plan{.logits = Logits::none, .until = until};
  for (int layer = wave.onset; layer < until; ++layer) {
    plan.record.push_back(
        {Site{Part::pattern, layer}, "received", received(context.options.sink.queries)});
  }
  std::vector<at::Tensor> drawn;
  for (std::int64_t first = 0; first < tokens.size(0); first += tokens_at_once) {
    context.tell("putting every token first",
                 static_cast<double>(first) / static_cast<double>(tokens.size(0)));
    const std::int64_t count = std::min(tokens_at_once, tokens.size(0) - first);
    Tokens batch{.ids = inputs.ids.narrow(0, 0, sequences).repeat({count, 1})};
    batch.ids.select(1, 0).copy_(tokens.narrow(0, first, count).repeat_interleave(sequences));
    if (inputs.lengths.defined())
      batch.lengths = inputs.lengths.narrow(0, 0, sequences).repeat({count});
    const Run run = plumb::run(context.model, batch, plan);
    context.evaluations += run.evaluations;
    at::Tensor sum = at::zeros({count}, at::kDouble);
    for (const auto& record : plan.record) {
      const at::Tensor sink = run.cache.at(record.site, "received").cpu().select(1, 0);
      sum += sink.to(at::kDouble).view({count, sequences}).mean(1);
    }
    drawn.push_back(sum / static_cast<double>(plan.record.size()));
  }
  const at::Tensor sinks = at::cat(drawn);
  const double null = context.null_at(0);
  const at::Tensor enough = sinks.ge(null + half_sink * (context.p0_sink(w, until) - null));
  report.vocabulary_share = enough.to(at::kDouble).mean().item<double>();
  report.vocabulary_exceptions.clear();
  const at::Tensor weakest = std::get<1>(sinks.sort());
  for (std::int64_t i = 0; i < std::min(exceptions_kept, weakest.size(0)); ++i) {
    const auto place = weakest[i].item<std::int64_t>();
    if (!enough[place].item<bool>())
      report.vocabulary_exceptions.push_back(tokens[place].item<std::int64_t>());
  }
}

}  // namespace

std::int64_t vocabulary_tried(const P0Context& context, std::size_t wave) {
  const std::int64_t vocab = context.model.config().vocab;
  if (context.spikes(wave)) return vocab;
  const std::int64_t stride = stride_of(vocab);
  return (vocab + stride - 1) / stride;
}

void sweep_vocabulary(P0Context& context, std::vector<WaveReport>& reports) {
  if (context.waves.empty()) return;
  const std::int64_t vocab = context.model.config().vocab;
  Plan plan{.logits = Logits::none};
  for (const auto& wave : context.waves) {
    const Site site =
        wave.onset == 0 ? Site{Part::resid_pre, 0} : Site{Part::resid_post, wave.onset - 1};
    plan.record.push_back({site, "norm", stream_norm()});
  }
  plan.until = std::max(1, context.waves.back().onset);
  std::vector<std::vector<at::Tensor>> pieces(context.waves.size());
  for (std::int64_t first = 0; first < vocab; first += tokens_per_chunk) {
    context.tell("running every token as position 0",
                 static_cast<double>(first) / static_cast<double>(vocab));
    const at::Tensor ids =
        at::arange(first, std::min(vocab, first + tokens_per_chunk), at::kLong).unsqueeze(1);
    const Run run = plumb::run(context.model, Tokens{.ids = ids}, plan);
    context.evaluations += run.evaluations;
    for (std::size_t w = 0; w < pieces.size(); ++w) {
      pieces[w].push_back(run.cache.at(plan.record[w].site, "norm").cpu().squeeze(1));
    }
  }
  for (std::size_t w = 0; w < pieces.size(); ++w) {
    const at::Tensor norms = at::cat(pieces[w], 0).to(at::kDouble);
    WaveReport& report = reports[w];
    const at::Tensor spikes = norms.gt(context.spike_norm[w]);
    report.vocabulary_share = spikes.to(at::kDouble).mean().item<double>();
    const at::Tensor sorted = std::get<0>(norms.sort());
    const auto quantile = [&](double share) {
      return sorted[static_cast<std::int64_t>(share * static_cast<double>(vocab - 1) + 0.5)]
          .item<double>();
    };
    report.vocabulary_norm = {quantile(0.01), quantile(0.5), quantile(0.99)};
    const at::Tensor weakest =
        std::get<1>(norms.sort()).narrow(0, 0, std::min(vocab, exceptions_kept));
    for (std::int64_t i = 0; i < weakest.size(0); ++i) {
      const auto token = weakest[i].item<std::int64_t>();
      if (!spikes[token].item<bool>()) report.vocabulary_exceptions.push_back(token);
    }
    if (!context.spikes(w)) sweep_by_attention(context, w, report);
  }
}

}  // namespace plumb
