// A sink survey as text.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "report/text_pieces.h"

namespace plumb::report {
namespace {

constexpr std::int64_t kMostMarks = 48;  // that fit a line of the page

// The share of a row of attention that lands on position 0, as one character.
const char* mark(double sink) {
  static constexpr const char* kMarks[] = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (!(sink >= 0.05)) return kMarks[0];
  return kMarks[1 + std::min(7, static_cast<int>(sink * 8.0))];
}

// A mark for each head of the layer, or, where that is too long, for the mean of as many neighbours
// as it takes.
std::string marks_of(const at::Tensor& sinks, std::int64_t heads_a_mark) {
  std::string marks;
  for (std::int64_t h = 0; h < sinks.size(0); h += heads_a_mark) {
    const std::int64_t count = std::min(heads_a_mark, sinks.size(0) - h);
    marks += mark(sinks.narrow(0, h, count).mean().item<double>());
  }
  return marks;
}

double at_index(const at::Tensor& values, std::int64_t index) {
  return values.defined() && index < values.size(0) ? values.select(0, index).item<double>()
                                                    : std::nan("");
}

std::string wave_of(const SinkSurvey& survey, int layer) {
  for (std::size_t i = 0; i < survey.waves.size(); ++i) {
    if (layer < survey.waves[i].onset || layer > survey.waves[i].last) continue;
    return std::to_string(i + 1);
  }
  return "";
}

std::string show_steps(const std::vector<Step>& steps, bool up) {
  std::vector<std::string> parts;
  for (const Step& step : steps) {
    if ((step.ratio > step.median_ratio) != up) continue;
    parts.push_back(fmt::format("{} x{:.3g} (median position x{:.3g})", step.site, step.ratio,
                                step.median_ratio));
  }
  return parts.empty() ? "none" : list_of(parts);
}

}  // namespace

std::string show_inputs(const SinkSurvey& survey) {
  const std::string what = survey.inputs_kind == "text"     ? "tokens of text"
                           : survey.inputs_kind == "random" ? "random tokens"
                                                            : "given tokens";
  const std::string bos = survey.bos ? fmt::format("token {} first (BOS)", *survey.bos) : "no BOS";
  return fmt::format("{} sequence{} of {} {}, {}", survey.sequences,
                     survey.sequences == 1 ? "" : "s", survey.length, what, bos);
}

std::string layer_table(const SinkSurvey& survey) {
  const at::Tensor mean =
      survey.mean.defined() ? survey.mean.to(at::kCPU, at::kDouble) : at::Tensor();
  const std::int64_t layers = mean.defined() ? mean.size(0) : 0;
  const std::int64_t heads = layers > 0 ? mean.size(1) : 0;
  const std::int64_t heads_a_mark =
      std::max<std::int64_t>(1, (heads + kMostMarks - 1) / kMostMarks);
  std::vector<std::vector<std::string>> rows;
  for (std::int64_t l = 0; l < layers; ++l) {
    rows.push_back(
        {std::to_string(l), wave_of(survey, static_cast<int>(l)),
         marks_of(mean.select(0, l), heads_a_mark), show_value(at_index(survey.layer_mean, l)),
         show_share(at_index(survey.rate, l)), show_norm(at_index(survey.p0_norm, 2 * l)),
         show_norm(at_index(survey.median_norm, 2 * l)),
         show_value(at_index(survey.p0_cosine, 2 * l))});
  }
  std::string text =
      columns({"layer", "wave", "<heads", "mean", "rate", "norm P0", "norm t>0", "cosine"}, rows);
  text += wrap(fmt::format(
      "heads: attention to position 0{}, · under 0.05, then ▁ to █ in eighths; mean over heads "
      "(uniform "
      "attention gives {:.3f}); rate: heads above {:g}; norms (mean at position 0, median "
      "elsewhere) and "
      "cosine (of position 0's state to its mean over sequences) as the layer is entered.",
      heads_a_mark > 1 ? fmt::format(" (each mark: the mean of {} heads)", heads_a_mark) : "",
      survey.null, survey.options.epsilon));
  return text;
}

std::string survey_notes(const SinkSurvey& survey, const Tokenizer* tokenizer) {
  std::string text;
  if (survey.waves.empty()) {
    text += fmt::format("  Waves: none (no layer's mean sink reaches {:.3g})\n",
                        std::max(survey.options.wave_threshold, 2.0 * survey.null));
  }
  for (std::size_t i = 0; i < survey.waves.size(); ++i) {
    const Wave& wave = survey.waves[i];
    text += fmt::format("  Wave {}: {}, mean sink {:.3f}, peak at layer {}\n", i + 1,
                        show_layers(wave.onset, wave.last), wave.mean, wave.peak);
  }
  std::set<int> starts = {0};
  if (survey.rate.defined() && survey.rate.size(0) > 2) starts.insert(2);
  for (const Wave& wave : survey.waves) starts.insert(wave.onset);
  std::vector<std::string> rates;
  if (survey.rate.defined() && survey.rate.size(0) > 0) {
    for (const int start : starts) {
      rates.push_back(
          fmt::format("{:.1f} % from layer {}", 100.0 * sink_rate_from(survey, start), start));
    }
    text += wrap(fmt::format("Sink rate (heads above {:g}, mean over layers): {}",
                             survey.options.epsilon, list_of(rates)),
                 2, 4);
  }
  text += wrap("Norm at position 0 steps up at: " + show_steps(survey.steps, true), 2, 4);
  text += wrap("Norm at position 0 is erased at: " + show_steps(survey.steps, false), 2, 4);
  for (const SecondarySink& sink : survey.secondary) {
    text += wrap(
        fmt::format("Secondary sink from layer {}: {} at {} position{}, drawing {:.3f} each, norm "
                    "{:.1f} times the median",
                    sink.layer, show_token(sink.token, tokenizer), show_count(sink.count),
                    sink.count == 1 ? "" : "s", sink.sink, sink.norm_ratio),
        2, 4);
  }
  text += std::isnan(survey.loss.mean)
              ? "  Loss: not measured, as the last block was not loaded\n"
              : fmt::format("  Loss: {} nats per predicted token\n", show_estimate(survey.loss));
  return text;
}

}  // namespace plumb::report
