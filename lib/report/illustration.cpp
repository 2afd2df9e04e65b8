#include "plumb/illustration.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "plumb/error.h"
#include "plumb/run.h"

namespace plumb {
namespace {

// The strongest heads of a layer and the weakest ones, in the order of their numbers.
std::vector<std::int64_t> extremes(const at::Tensor& sinks, std::int64_t count) {
  const at::Tensor plain = sinks.to(at::kCPU, at::kDouble).contiguous();
  const double* sink = plain.data_ptr<double>();
  std::vector<std::int64_t> heads(static_cast<std::size_t>(plain.size(0)));
  std::iota(heads.begin(), heads.end(), 0);
  if (count >= plain.size(0)) return heads;
  std::ranges::stable_sort(heads,
                           [&](std::int64_t a, std::int64_t b) { return sink[a] > sink[b]; });
  const std::int64_t weakest = count / 3;
  heads.erase(heads.begin() + (count - weakest), heads.end() - weakest);
  std::ranges::sort(heads);
  return heads;
}

}  // namespace

Illustration illustrate(const Model& model, const Inputs& inputs, const SinkSurvey& survey,
                        const Tokenizer* tokenizer, const std::vector<std::int64_t>& more_ids,
                        const IllustrationOptions& options) {
  if (options.sequences < 1 || options.positions < 1 || options.maps < 1) {
    throw Error(ErrorKind::bad_argument,
                "expected at least one sequence, position and map to illustrate");
  }
  if (!survey.mean.defined() || survey.mean.dim() != 2 ||
      survey.mean.size(0) != model.config().layers) {
    throw Error(ErrorKind::bad_argument, "expected a survey of the model to illustrate");
  }
  const std::int64_t layers = survey.mean.size(0);
  const std::int64_t heads = survey.mean.size(1);
  const std::int64_t first = model.first_layer();
  const std::int64_t all = (layers - first) * heads;
  const std::int64_t sequences = std::clamp<std::int64_t>(
      options.maps / all, 1, std::min(options.sequences, inputs.tokens.batch()));
  const std::int64_t per_layer =
      std::clamp<std::int64_t>(options.maps / std::max<std::int64_t>(layers - first, 1), 1, heads);
  const Inputs shown = head(inputs, sequences, options.positions);

  Plan plan{.logits = Logits::none};
  std::vector<std::int64_t> places;
  for (std::int64_t layer = first; layer < layers; ++layer) {
    const auto chosen = extremes(survey.mean.select(0, layer), per_layer);
    for (const std::int64_t h : chosen) places.insert(places.end(), {layer, h});
    plan.record.emplace_back(Site{Part::pattern, static_cast<int>(layer)}, Slice{.heads = chosen});
  }
  const Run seen = run(model, shown.tokens, plan);
  std::vector<at::Tensor> patterns;
  for (const Record& record : plan.record)
    patterns.push_back(seen.cache.at(record.site).to(at::kCPU, at::kFloat));

  Illustration made;
  made.heads = at::tensor(places, at::kLong).view({-1, 2});
  made.pattern = at::cat(patterns, 1).contiguous();
  std::set<std::int64_t> ids(more_ids.begin(), more_ids.end());
  for (const SecondarySink& sink : survey.secondary) ids.insert(sink.token);
  for (std::int64_t b = 0; b < sequences; ++b) {
    const std::int64_t length = shown.tokens.lengths.defined()
                                    ? shown.tokens.lengths[b].item<std::int64_t>()
                                    : shown.length();
    made.pattern[b].slice(1, length).zero_();
    made.pattern[b].slice(2, length).zero_();
    for (std::int64_t t = 0; t < length; ++t)
      ids.insert(shown.tokens.ids[b][t].item<std::int64_t>());
  }
  if (tokenizer == nullptr) return made;
  for (const std::int64_t id : ids) {
    made.ids.push_back(id);
    made.texts.push_back(tokenizer->show(id));
  }
  return made;
}

}  // namespace plumb
