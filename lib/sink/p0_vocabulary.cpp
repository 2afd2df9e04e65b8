#include "sink/p0_vocabulary.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "sink/reductions.h"

namespace plumb {

namespace {

constexpr std::int64_t tokens_per_chunk = 2048;
constexpr std::int64_t exceptions_kept = 20;

}  // namespace

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
  }
}

}  // namespace plumb
