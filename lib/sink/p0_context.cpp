#include "sink/p0_context.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "core/random.h"
#include "plumb/error.h"
#include "sink/reductions.h"

namespace plumb {

namespace {

// A spike stands well above ordinary positions and within reach of position 0.
constexpr double spike_over_median = 4.0;
constexpr double spike_of_p0 = 0.25;

constexpr std::int64_t tokens_at_once = 2048;

// One random position t > 0 per sequence, none of them the position to avoid.
at::Tensor donor_positions(const Inputs& inputs, std::int64_t avoid, Random random) {
  const auto& tokens = inputs.tokens;
  at::Tensor positions = at::empty({tokens.batch()}, at::kLong);
  for (std::int64_t b = 0; b < tokens.batch(); ++b) {
    const auto length =
        tokens.lengths.defined() ? tokens.lengths[b].item<std::int64_t>() : tokens.length();
    std::int64_t t = 1 + random.below(std::max<std::int64_t>(1, length - 1));
    if (t == avoid) t = t > 1 ? t - 1 : std::min(t + 1, length - 1);
    positions[b] = t;
  }
  return positions;
}

at::Tensor given_donors(const Inputs& inputs, const std::vector<std::int64_t>& donors) {
  const bool fits =
      static_cast<std::int64_t>(donors.size()) == inputs.tokens.batch() &&
      std::ranges::all_of(donors, [&](std::int64_t t) { return t > 0 && t < inputs.length(); });
  if (!fits) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected {} donor positions, each 1-{}, got {}", inputs.tokens.batch(),
                            inputs.length() - 1, donors.size()));
  }
  return at::tensor(donors, at::kLong);
}

at::Tensor behind_prefix(const at::Tensor& ids, std::int64_t prefix) {
  // The prefix is text from another sequence, so that the displaced token follows ordinary tokens.
  const at::Tensor before = ids.roll({1}, {0}).narrow(1, 1, prefix);
  return at::cat({before, ids.narrow(1, 0, ids.size(1) - prefix)}, 1);
}

}  // namespace

std::string to_string(Component component) {
  return fmt::format("{}{}", component.mlp ? 'm' : 'a', component.layer);
}

std::string to_string(const std::vector<Component>& components) {
  std::string text;
  for (const auto component : components) text += (text.empty() ? "" : "+") + to_string(component);
  return text;
}

Site output_site(Component component) {
  return {component.mlp ? Part::mlp_out : Part::attn_out, component.layer};
}

std::vector<Component> components_of_blocks(int first, int last) {
  std::vector<Component> components;
  for (int layer = first; layer < last; ++layer) {
    components.push_back({.layer = layer, .mlp = false});
    components.push_back({.layer = layer, .mlp = true});
  }
  return components;
}

P0Context::P0Context(const Model& model_, const Inputs& all, const P0Options& options_,
                     std::vector<Wave> waves_, const SinkSurvey& survey, const Progress& progress)
    : model(model_),
      options(options_),
      waves(std::move(waves_)),
      inputs(head(all, options_.causal_sequences, options_.causal_length)),
      progress_(progress) {
  const Random random(options.seed);
  const auto T = inputs.length();
  control_position_ = std::min<std::int64_t>(options.self_mask_position, T / 2);
  const at::Tensor donors = options.donors.empty() ? donor_positions(inputs, 0, random.fork(1))
                                                   : given_donors(inputs, options.donors);
  const at::Tensor control_donors = donor_positions(inputs, control_position_, random.fork(2));
  const int deepest = waves.empty() ? 0 : waves.back().onset;

  tell("running the clean pass", 0.0);
  Plan plan = reading_plan(std::nullopt, 0);
  for (int layer = 0; layer <= deepest; ++layer)
    plan.record.push_back({Site{Part::resid_pre, layer}});
  const std::int64_t k = control_position_;
  for (const auto component : components_of_blocks(0, layers())) {
    const Site site = output_site(component);
    plan.record.push_back({site, "own", {}, {.positions = {0}}});
    plan.record.push_back({site, "mean", mean_of_others()});
    plan.record.push_back({site, "resample", gather_position(donors)});
    plan.record.push_back({site, "control", {}, {.positions = {k}}});
    plan.record.push_back({site, "control_resample", gather_position(control_donors)});
  }
  const Run run = plumb::run(model, inputs.tokens, plan);
  evaluations += run.evaluations;
  clean = collect(run, plan, 0);
  for (int layer = 0; layer <= deepest; ++layer)
    stream_.push_back(run.cache.at({Part::resid_pre, layer}));

  // Position `prefix` of the displaced run sees the prefix only, so no more needs to be run.
  tell("running the displaced pass", 0.0);
  const std::int64_t prefix = std::min<std::int64_t>(options.prefix, T / 2);
  displaced_ids = behind_prefix(inputs.tokens.ids, prefix);
  Plan displaced{.logits = Logits::none};
  for (const auto component : components_of_blocks(0, layers())) {
    displaced.record.push_back({output_site(component), Slice{.positions = {prefix}}});
  }
  const Run moved = plumb::run(
      model, Tokens{.ids = displaced_ids.narrow(1, 0, prefix + 1).contiguous()}, displaced);
  evaluations += moved.evaluations;

  for (const auto component : components_of_blocks(0, layers())) {
    const Site site = output_site(component);
    values[component] = {.own = run.cache.at(site, "own"),
                         .mean = run.cache.at(site, "mean"),
                         .resample = run.cache.at(site, "resample"),
                         .displaced = moved.cache.at(site),
                         .control = run.cache.at(site, "control"),
                         .control_resample = run.cache.at(site, "control_resample")};
  }
  for (std::size_t w = 0; w < waves.size(); ++w) {
    const int j = 2 * waves[w].onset;
    const double p0 = clean.onset_norm[w].select(1, 0).mean().item<double>();
    spike_norm.push_back(
        std::max(spike_over_median * survey.median_norm[j].item<double>(), spike_of_p0 * p0));
    const at::Tensor state = spikes(w) ? stream(waves[w].onset).select(1, 0).mean(0).to(at::kDouble)
                                       : mark_of_position_0(waves[w].onset);
    direction.push_back(state / state.norm());
  }
}

at::Tensor P0Context::mark_of_position_0(int layer) {
  const at::Tensor behind = at::arange(1, inputs.length(), at::kLong).unsqueeze(0);
  at::Tensor valid = at::ones({inputs.tokens.batch(), inputs.length() - 1}, at::kBool);
  if (inputs.tokens.lengths.defined()) valid = behind < inputs.tokens.lengths.unsqueeze(1);
  const at::Tensor places = valid.flatten().nonzero().squeeze(1);
  const auto chosen = [&](const at::Tensor& values) {
    return values.narrow(1, 1, inputs.length() - 1)
        .flatten(0, 1)
        .index_select(0, places.to(values.device()));
  };
  const at::Tensor ids = chosen(inputs.tokens.ids).unsqueeze(1);
  const Site site{Part::resid_post, layer - 1};
  Plan plan{.record = {site}, .logits = Logits::none};
  plan.until = layer;
  const at::Tensor others = chosen(stream(layer)).to(at::kDouble).mean(0);
  // Before block 0 nothing but the token and its position is there.
  if (inputs.bos || layer == 0) return stream(layer).select(1, 0).mean(0).to(at::kDouble) - others;
  at::Tensor first = at::zeros_like(others);
  for (std::int64_t from = 0; from < ids.size(0); from += tokens_at_once) {
    const std::int64_t count = std::min(tokens_at_once, ids.size(0) - from);
    const Run run = plumb::run(model, Tokens{.ids = ids.narrow(0, from, count)}, plan);
    evaluations += run.evaluations;
    first = first + run.cache.at(site).to(at::kDouble).sum(c10::IntArrayRef{0, 1});
  }
  return first / static_cast<double>(ids.size(0)) - others;
}

double P0Context::null_at(std::int64_t position) const {
  if (position == 0) return uniform_sink(inputs.length(), options.sink.queries);
  double sum = 0.0;
  for (std::int64_t query = position + 1; query < inputs.length(); ++query)
    sum += 1.0 / static_cast<double>(query + 1);
  return sum / static_cast<double>(std::max<std::int64_t>(1, inputs.length() - position - 1));
}

std::vector<Intervention> P0Context::replace(const std::vector<Component>& components,
                                             Ablation ablation, std::int64_t sequences) const {
  const auto put = [&](const at::Tensor& value) {
    return Put{sequences == all_sequences ? value : value.narrow(0, 0, sequences)};
  };
  std::vector<Intervention> edits;
  for (const auto component : components) {
    const auto& value = values.at(component);
    Edit edit = Zero{};
    if (ablation == Ablation::mean) edit = put(value.mean);
    if (ablation == Ablation::resample) edit = put(value.resample);
    if (ablation == Ablation::displaced) edit = put(value.displaced);
    edits.push_back(
        {.site = output_site(component), .where = {.positions = {0}}, .edit = std::move(edit)});
  }
  return edits;
}

void P0Context::tell(const std::string& what, double done) const {
  if (progress_) progress_(what, done);
}

}  // namespace plumb
