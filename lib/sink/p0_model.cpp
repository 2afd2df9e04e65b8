// A1-A3, C1, C3, C13, C15: what the survey of the whole model says, by identifier.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "sink/p0_catalogue_runs.h"

namespace plumb::p0 {

namespace {

void put(P0Experiment& into, const std::string& name, const std::vector<std::string>& axes,
         const at::Tensor& values, const std::string& note) {
  if (!values.defined()) return;
  into.arrays.push_back({name, axes, values.to(at::kCPU).contiguous(), note});
}

double at_layer(const at::Tensor& values, std::int64_t i) { return values[i].item<double>(); }

const char* place_of(Positions positions) {
  switch (positions) {
    case Positions::rope: return "rotary positions";
    case Positions::learned: return "a learned position table";
    case Positions::alibi: return "a bias on the scores that grows with the distance";
    case Positions::none: return "no position encoding";
  }
  return "";
}

}  // namespace

void sink_rate(const Model&, const SinkSurvey& survey, P0Experiment& into) {
  put(into, "sink", {"sequence", "layer", "head"}, survey.sink, "attention to position 0");
  put(into, "mean", {"layer", "head"}, survey.mean, "of it over sequences");
  put(into, "rate", {"layer"}, survey.rate,
      fmt::format("share of heads above {:g}", survey.options.epsilon));
  std::vector<double> from;
  for (std::int64_t l = 0; l < survey.rate.size(0); ++l)
    from.push_back(sink_rate_from(survey, static_cast<int>(l)));
  put(into, "rate_from", {"start_layer"}, at::tensor(from, at::kDouble), "arXiv:2603.06591 Eq. 2");
  into.findings.push_back(fmt::format("sink rate from layer 0: {:.1f} %; null {:.3f}",
                                      100 * from.front(), survey.null));
}

void norm_profile(const Model&, const SinkSurvey& survey, P0Experiment& into) {
  put(into, "norm", {"half_layer", "position"}, survey.norm.mean(0), "mean over sequences");
  const at::Tensor ratio = survey.p0_norm / survey.median_norm.clamp_min(1e-30);
  into.findings.push_back(fmt::format(
      "position 0's norm is at most {:.1f} times the median position's, at stream {:.1f}",
      ratio.max().item<double>(), static_cast<double>(ratio.argmax().item<std::int64_t>()) / 2.0));
}

void direction_profile(const Model&, const SinkSurvey& survey, P0Experiment& into) {
  put(into, "positions", {"place"}, survey.profile_positions, "");
  put(into, "cosine", {"half_layer", "place"}, survey.cosine,
      "mean cosine of a state to its mean over sequences");
  into.findings.push_back(
      fmt::format("position 0's cosine to its mean over sequences: {:.3f} at the embedding, {:.3f} "
                  "at most",
                  at_layer(survey.p0_cosine, 0), survey.p0_cosine.max().item<double>()));
}

void onset(const Model&, const SinkSurvey& survey, P0Experiment& into) {
  for (const auto& wave : survey.waves)
    into.findings.push_back(fmt::format("a wave from layer {} to {}, peak {}, mean sink {:.3f}",
                                        wave.onset, wave.last, wave.peak, wave.mean));
  if (survey.waves.empty()) into.findings.emplace_back("no layer reaches the wave threshold");
  const at::Tensor half = survey.rate.ge(0.5).nonzero();
  into.findings.push_back(half.size(0) == 0
                              ? std::string("no layer has half of its heads as sink heads")
                              : fmt::format("first layer with half of its heads as sink heads: {}",
                                            half[0][0].item<std::int64_t>()));
  for (const auto& step : survey.steps)
    into.findings.push_back(
        fmt::format("{} steps position 0's norm by a factor {:.2f} (median position {:.2f})",
                    step.site, step.ratio, step.median_ratio));
}

void three_signals(const Model&, const SinkSurvey& survey, P0Experiment& into) {
  put(into, "norm_ratio", {"half_layer"}, survey.p0_norm / survey.median_norm.clamp_min(1e-30),
      "position 0 over the median position");
  put(into, "positions", {"place"}, survey.profile_positions, "");
  put(into, "cosine", {"half_layer", "place"}, survey.cosine, "direction");
  put(into, "variance", {"half_layer", "place"}, survey.variance,
      "mean squared distance to the mean over sequences");
  put(into, "separability", {"half_layer"}, survey.separability,
      "area under the curve of a linear detector, held out");
  if (!survey.separability.defined()) {
    into.findings.emplace_back("separability needs at least 4 sequences");
    return;
  }
  const at::Tensor found = survey.separability.gt(0.99).nonzero();
  into.findings.push_back(
      found.size(0) == 0
          ? std::string("no half layer separates position 0 with an area above 0.99")
          : fmt::format("identification depth: stream {:.1f}",
                        static_cast<double>(found[0][0].item<std::int64_t>()) / 2.0));
}

void front_depth(const Model& model, const SinkSurvey& survey, P0Experiment& into) {
  const double depth = (1.0 - survey.rate).mean().item<double>();
  into.findings.push_back(fmt::format(
      "front depth {:.3f} = 1 - the rate from layer 0 ({:.3f}); plumb trace follows it, the onset "
      "and the blocks' shares along checkpoints of {} layers",
      depth, sink_rate_from(survey, 0), model.config().layers));
  put(into, "front_depth", {"value"}, at::tensor({depth}, at::kDouble), "sum (1 - rate) / L");
}

void architecture(const Model& model, const SinkSurvey& survey, P0Experiment& into) {
  const ModelConfig& c = model.config();
  std::vector<std::string> switches{place_of(c.positions)};
  if (c.parallel) switches.emplace_back("parallel blocks");
  if (c.norm_place == NormPlace::after) switches.emplace_back("norms on what blocks write");
  if (c.norm_place == NormPlace::both) switches.emplace_back("norms on both sides");
  if (c.norm == Norm::layer) switches.emplace_back("LayerNorm");
  if (c.qkv_bias) switches.emplace_back("biases of queries, keys and values");
  if (c.qk_norm != QkNorm::none) switches.emplace_back("norms on queries and keys");
  if (c.kv_heads != c.heads)
    switches.push_back(fmt::format("{} key heads of {}", c.kv_heads, c.heads));
  if (c.gated_attention) switches.emplace_back("gated attention");
  if (c.sink_logits) switches.emplace_back("learned sink logits");
  if (c.experts.count > 0) switches.push_back(fmt::format("{} experts", c.experts.count));
  into.findings.push_back(fmt::format("the decoder has {}", fmt::join(switches, ", ")));
  if (!c.windows.empty()) {
    for (const bool windowed : {false, true}) {
      double sum = 0.0;
      int count = 0;
      for (std::size_t l = 0; l < c.windows.size() && l < static_cast<std::size_t>(c.layers); ++l) {
        if ((c.windows[l] > 0) != windowed) continue;
        sum += at_layer(survey.rate, static_cast<std::int64_t>(l));
        ++count;
      }
      if (count > 0)
        into.findings.push_back(fmt::format("sink rate of the {} layers {} a window: {:.1f} %",
                                            count, windowed ? "with" : "without",
                                            100 * sum / count));
    }
  }
  if (survey.sink_mass.defined()) {
    put(into, "sink_mass", {"layer", "head"}, survey.sink_mass,
        "mean probability of the learned sink logit");
    into.findings.push_back(fmt::format(
        "learned sink logits take {:.3f} of the attention on average, {:.3f} in the layer of most",
        survey.sink_mass.mean().item<double>(), survey.sink_mass.mean(1).max().item<double>()));
  }
}

}  // namespace plumb::p0
