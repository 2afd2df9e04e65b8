#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "plumb/error.h"
#include "plumb/head_attention.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "sink/reductions.h"

namespace plumb {

namespace {

// Positions computed per call of `run`, so that memory is bounded and progress can be told.
constexpr std::int64_t positions_per_chunk = 2048;
constexpr std::int64_t profile_candidates[] = {0, 1, 2, 4, 8, 16, 32, 64};
constexpr std::size_t secondary_tokens_kept = 8;

Site half_layer(std::int64_t j, int layers) {
  if (j == 2 * layers) return {Part::resid_post, layers - 1};
  return {j % 2 == 0 ? Part::resid_pre : Part::resid_mid, static_cast<int>(j / 2)};
}

struct Recorded {
  std::vector<std::vector<at::Tensor>> pieces;  // [record][chunk]
  std::vector<at::Tensor> joined() const {
    std::vector<at::Tensor> result;
    for (const auto& piece : pieces) result.push_back(at::cat(piece, 0).cpu());
    return result;
  }
};

at::Tensor valid_positions(const Inputs& inputs) {
  const auto& tokens = inputs.tokens;
  const at::Tensor index = at::arange(tokens.length(), at::kLong).unsqueeze(0);
  if (!tokens.lengths.defined()) return at::ones({tokens.batch(), tokens.length()}, at::kBool);
  return index < tokens.lengths.unsqueeze(1);
}

std::vector<Step> find_steps(const SinkSurvey& survey, int layers) {
  std::vector<Step> steps;
  const auto* p0 = survey.p0_norm.data_ptr<float>();
  const auto* median = survey.median_norm.data_ptr<float>();
  for (int j = 0; j < 2 * layers; ++j) {
    Step step{.layer = j / 2, .mlp = j % 2 == 1};
    step.site = fmt::format("{}{}", step.mlp ? 'm' : 'a', step.layer);
    step.ratio = p0[j + 1] / p0[j];
    step.median_ratio = median[j + 1] / median[j];
    const bool up = step.ratio >= survey.options.step_up &&
                    step.ratio >= survey.options.step_up * step.median_ratio;
    if (up || step.ratio <= survey.options.step_down) steps.push_back(step);
  }
  return steps;
}

std::vector<SecondarySink> find_secondary(const SinkSurvey& survey, const Inputs& inputs) {
  std::vector<SecondarySink> found;
  const at::Tensor valid = valid_positions(inputs);
  for (const auto& wave : survey.waves) {
    const at::Tensor norms = survey.norm.select(1, 2 * wave.onset);
    const double median = survey.median_norm[2 * wave.onset].item<double>();
    at::Tensor spikes =
        norms.gt(survey.options.secondary_norm * median)
            .logical_and(survey.received.select(1, wave.peak).gt(survey.options.secondary_sink))
            .logical_and(valid);
    spikes.select(1, 0).fill_(false);
    const at::Tensor where = spikes.nonzero();
    std::map<std::int64_t, SecondarySink> by_token;
    for (std::int64_t i = 0; i < where.size(0); ++i) {
      const auto b = where[i][0].item<std::int64_t>();
      const auto t = where[i][1].item<std::int64_t>();
      auto& entry = by_token[inputs.tokens.ids[b][t].item<std::int64_t>()];
      entry.count += 1;
      entry.sink += survey.received[b][wave.peak][t].item<double>();
      entry.norm_ratio += norms[b][t].item<double>() / median;
    }
    std::vector<SecondarySink> sinks;
    for (auto& [token, entry] : by_token) {
      entry.layer = wave.onset;
      entry.token = token;
      entry.sink /= static_cast<double>(entry.count);
      entry.norm_ratio /= static_cast<double>(entry.count);
      sinks.push_back(entry);
    }
    std::ranges::stable_sort(sinks, std::ranges::greater{}, &SecondarySink::count);
    sinks.resize(std::min(sinks.size(), secondary_tokens_kept));
    found.insert(found.end(), sinks.begin(), sinks.end());
  }
  return found;
}

std::int64_t sequences_per_run(std::int64_t length) {
  return std::max<std::int64_t>(1, positions_per_chunk / length);
}

std::vector<std::int64_t> positions_to_profile(std::int64_t shortest) {
  std::vector<std::int64_t> positions;
  for (const auto t : profile_candidates) {
    if (t < shortest) positions.push_back(t);
  }
  return positions;
}

Plan survey_plan(const Model& model, const SinkOptions& options,
                 const std::vector<std::int64_t>& positions, std::int64_t skip, bool heads) {
  const int layers = model.config().layers;
  Plan plan{.logits = Logits::none};
  for (int layer = 0; layer < layers; ++layer) {
    plan.record.push_back(
        {Site{Part::pattern, layer}, "received", received_by_head(options.queries)});
  }
  for (int j = 0; j <= 2 * layers; ++j) {
    plan.record.push_back({half_layer(j, layers), "norm", stream_norm()});
    plan.record.push_back({half_layer(j, layers), "states", {}, {.positions = positions}});
  }
  if (model.config().sink_logits) {
    for (int layer = 0; layer < layers; ++layer)
      plan.record.push_back({Site{Part::sink_mass, layer}, "mean", mean_over_queries()});
  }
  for (int layer = 0; heads && layer < layers; ++layer) {
    plan.record.push_back({Site{Part::pattern, layer}, "heads", head_statistics(options.queries)});
  }
  for (int layer = 0; heads && layer < layers; ++layer) {
    plan.record.push_back(
        {Site{Part::scores, layer}, "log_sum_exp", mean_log_sum_exp(options.queries)});
  }
  if (model.whole()) plan.record.push_back(record_loss(skip));
  return plan;
}

// Norms, directions and variances from the kept norms and states.
void profile(SinkSurvey& survey, const at::Tensor& states, const at::Tensor& valid) {
  survey.p0_norm = survey.norm.select(2, 0).mean(0);
  const at::Tensor others =
      valid.narrow(1, 1, survey.length - 1).reshape({-1}).nonzero().squeeze(1);
  std::vector<at::Tensor> medians;
  for (std::int64_t j = 0; j < survey.norm.size(1); ++j) {
    const at::Tensor at_others =
        survey.norm.select(1, j).narrow(1, 1, survey.length - 1).reshape({-1});
    medians.push_back(at_others.index_select(0, others).median());
  }
  survey.median_norm = at::stack(medians);
  // states [B, 2L + 1, P, d]
  const at::Tensor mean_state = states.mean(0, true);
  survey.cosine = at::cosine_similarity(states, mean_state, -1).mean(0);
  survey.variance = (states - mean_state).square().sum(-1).mean(0);
  survey.p0_cosine = survey.cosine.select(1, 0).contiguous();
  survey.p0_mean_state = mean_state.select(0, 0).select(1, 0).contiguous();
}

// A diagonal linear discriminant (difference of means over pooled variances) of position 0 against
// the other profile positions: the share of (P0, other) pairs of held-out states it orders right.
at::Tensor separability(const at::Tensor& states) {
  const auto sequences = states.size(0);
  const auto others = states.size(2) - 1;
  if (sequences < 4 || others < 1) return {};
  const at::Tensor even = at::arange(0, sequences, 2, at::kLong);
  const at::Tensor odd = at::arange(1, sequences, 2, at::kLong);
  std::vector<double> areas;
  for (std::int64_t j = 0; j < states.size(1); ++j) {
    const at::Tensor all = states.select(1, j).to(at::kDouble);
    const at::Tensor train = all.index_select(0, even);
    const at::Tensor p0 = train.select(1, 0);
    const at::Tensor rest = train.narrow(1, 1, others).reshape({-1, all.size(2)});
    const at::Tensor variance = p0.var(0, false) + rest.var(0, false);
    const at::Tensor detector =
        (p0.mean(0) - rest.mean(0)) / (variance + 1e-6 * variance.mean() + 1e-12);
    const at::Tensor scores = all.index_select(0, odd).matmul(detector);
    const at::Tensor higher = scores.select(1, 0).reshape({-1, 1});
    const at::Tensor lower = scores.narrow(1, 1, others).reshape({1, -1});
    areas.push_back((higher.gt(lower).to(at::kDouble) + 0.5 * higher.eq(lower).to(at::kDouble))
                        .mean()
                        .item<double>());
  }
  return at::tensor(areas, at::kDouble);
}

void summarise_sink(SinkSurvey& survey) {
  const at::Tensor above = survey.sink.gt(survey.options.epsilon).to(at::kFloat);
  survey.mean = survey.sink.mean(0);
  survey.layer_mean = survey.mean.mean(1);
  survey.rate = survey.options.pool == Pool::per_sample
                    ? above.mean(c10::IntArrayRef{0, 2})
                    : survey.mean.gt(survey.options.epsilon).to(at::kFloat).mean(1);
}

}  // namespace

void check(const SinkOptions& options) {
  const auto within = [](double value, double low, double high, const char* what) {
    if (!(value >= low && value <= high)) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected {} of {} to {}, got {}", what, low, high, value));
    }
  };
  within(options.epsilon, 0.0, 1.0, "epsilon");
  within(options.wave_threshold, 0.0, 1.0, "a wave threshold");
  within(options.step_up, 1.0, 1e9, "a step up");
  within(options.step_down, 0.0, 1.0, "a step down");
  within(options.secondary_norm, 1.0, 1e9, "a secondary norm ratio");
  within(options.secondary_sink, 0.0, 1.0, "a secondary sink");
}

RunCost foresee_survey(const Model& model, std::int64_t sequences, std::int64_t length) {
  const std::vector<std::int64_t> positions = positions_to_profile(length);
  const Plan plan = survey_plan(model, {}, positions, 0, true);
  RunCost cost = foresee(model, std::min(sequences, sequences_per_run(length)), length, plan);
  const ModelConfig& config = model.config();
  cost.evaluations = sequences * length * config.layers;
  const auto kept = static_cast<std::int64_t>(positions.size());
  // Kept of every sequence: what each key draws in every head, norms and states of half layers.
  const std::int64_t elements =
      std::int64_t{config.layers} * config.heads * length +
      (2 * std::int64_t{config.layers} + 1) * (length + kept * config.d_model);
  // In the end they are there in pieces, joined, and stacked by layer.
  constexpr std::int64_t copies = 3;
  cost.result_bytes +=
      copies * sequences * elements * static_cast<std::int64_t>(at::elementSize(model.dtype()));
  return cost;
}

namespace {

SinkSurvey survey_all(const Model& model, const Inputs& inputs, const SinkOptions& options,
                      const Progress& progress, HeadAttention* heads) {
  check(options);
  if (inputs.length() < 2) {
    throw Error(ErrorKind::bad_argument,
                "a sink is measured on sequences of at least 2 tokens; give longer inputs");
  }
  const int layers = model.config().layers;
  SinkSurvey survey{.options = options,
                    .inputs_kind = inputs.kind,
                    .bos = inputs.bos,
                    .inputs_sha256 = inputs.sha256,
                    .sequences = inputs.tokens.batch(),
                    .length = inputs.length(),
                    .null = uniform_sink(inputs.length(), options.queries)};

  const at::Tensor valid = valid_positions(inputs);
  const auto shortest = valid.sum(1).min().item<std::int64_t>();
  const std::vector<std::int64_t> positions = positions_to_profile(shortest);
  survey.profile_positions = at::tensor(positions, at::kLong);
  const Plan plan = survey_plan(model, options, positions, inputs.bos ? 1 : 0, heads != nullptr);

  Recorded recorded;
  recorded.pieces.resize(plan.record.size());
  const std::int64_t chunk = sequences_per_run(inputs.length());
  for (std::int64_t first = 0; first < survey.sequences; first += chunk) {
    if (progress)
      progress("measuring the sink",
               static_cast<double>(first) / static_cast<double>(survey.sequences));
    const auto count = std::min(chunk, survey.sequences - first);
    Tokens part{.ids = inputs.tokens.ids.narrow(0, first, count),
                .positions = inputs.tokens.positions};
    if (inputs.tokens.lengths.defined())
      part.lengths = inputs.tokens.lengths.narrow(0, first, count);
    const Run run = plumb::run(model, part, plan);
    survey.evaluations += run.evaluations;
    for (std::size_t i = 0; i < plan.record.size(); ++i) {
      recorded.pieces[i].push_back(run.cache.at(plan.record[i].site, plan.record[i].label));
    }
  }
  const auto kept = recorded.joined();
  const auto count = static_cast<std::size_t>(layers);
  const auto stacked = [&](std::size_t first) {
    const auto from = kept.begin() + static_cast<std::ptrdiff_t>(first);
    return at::stack(std::vector<at::Tensor>(from, from + layers), 1).to(at::kFloat);
  };
  const at::Tensor received = stacked(0);
  survey.sink = received.select(3, 0).contiguous();
  survey.received = received.mean(2);
  std::vector<at::Tensor> norms;
  std::vector<at::Tensor> states;
  const std::size_t streams = count + 2 * (2 * count + 1);
  const std::size_t per_head = streams + (model.config().sink_logits ? count : 0);
  if (heads != nullptr) *heads = head_attention(stacked(per_head), stacked(per_head + count));
  for (std::size_t i = count; i < streams; i += 2) {
    norms.push_back(kept[i].to(at::kFloat));
    states.push_back(kept[i + 1].to(at::kFloat));
  }
  survey.norm = at::stack(norms, 1);
  if (model.config().sink_logits) {
    const auto first = kept.begin() + static_cast<std::ptrdiff_t>(streams);
    survey.sink_mass =
        at::stack(std::vector<at::Tensor>(first, first + layers), 1).to(at::kFloat).mean(0);
  }
  summarise_sink(survey);
  const at::Tensor all_states = at::stack(states, 1);
  profile(survey, all_states, valid);
  survey.separability = separability(all_states);
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  survey.loss = model.whole() ? bootstrap(kept.back()) : Estimate{unknown, unknown, unknown};
  survey.waves = find_waves(survey.layer_mean, std::max(options.wave_threshold, 2.0 * survey.null));
  survey.steps = find_steps(survey, layers);
  survey.secondary = find_secondary(survey, inputs);
  return survey;
}

}  // namespace

SinkSurvey survey_sink(const Model& model, const Inputs& inputs, const SinkOptions& options,
                       const Progress& progress) {
  return survey_all(model, inputs, options, progress, nullptr);
}

SinkSurvey survey_sink(const Model& model, const Inputs& inputs, const SinkOptions& options,
                       HeadAttention& heads, const Progress& progress) {
  return survey_all(model, inputs, options, progress, &heads);
}

}  // namespace plumb
