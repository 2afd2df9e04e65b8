#include "plumb/edit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/atomic_file.h"
#include "checkpoint/write_tokenizer.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"
#include "plumb/sink.h"
#include "sink/edit_parts.h"

namespace plumb {

namespace {

constexpr double shortest_direction = 1e-12;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "edit: " + message);
}

// Weights through which a component writes, with their biases.
std::vector<Weight> writing_weights(const ModelConfig& config, const Component& component) {
  if (!component.mlp) return {Weight::out, Weight::out_bias};
  if (!is_sparse(config, component.layer)) return {Weight::down, Weight::down_bias};
  return {Weight::expert_down, Weight::expert_down_bias, Weight::shared_down};
}

// Without the part along the unit vector u [d_model] of the axis of outputs: the last of a bias,
// the last but one of a matrix.
at::Tensor without(const at::Tensor& weight, const at::Tensor& u, bool bias) {
  at::Tensor wide = weight.to(at::kDouble);
  const at::Tensor unit = u.to(at::kDouble).to(weight.device());
  const at::Tensor part = bias ? at::matmul(wide, unit).unsqueeze(-1) * unit
                               : unit.unsqueeze(1) * at::matmul(unit, wide).unsqueeze(-2);
  return (wide - part).to(weight.scalar_type());
}

class Editor {
 public:
  Editor(const Model& model, const EditOptions& options)
      : model_(model), options_(options), config_(model.config()) {}

  EditedModel edit() {
    project_out();
    silence();
    put_slot();
    std::string problem = why_not_written();
    auto source = [base = model_, changed = changed_](Weight weight, int layer) {
      const auto found = changed.find({weight, layer});
      return found == changed.end() ? base.weight(weight, layer) : found->second;
    };
    EditedModel edited{
        Model(config_, source, model_.name() + " edited",
              {.dtype = model_.dtype(), .device = model_.device(), .threads = model_.threads()}),
        {},
        std::move(problem)};
    for (const auto& [key, value] : changed_)
      edited.changed.push_back(weight_name(key.first, key.second));
    return edited;
  }

 private:
  at::Tensor current(Weight weight, int layer) const {
    const auto found = changed_.find({weight, layer});
    return found == changed_.end() ? model_.weight(weight, layer) : found->second;
  }

  template <typename Change>
  void change(const std::string& components, const Change& made) {
    for (const Component& component : edited_components(components, config_)) {
      for (const Weight weight : writing_weights(config_, component)) {
        const at::Tensor old = current(weight, component.layer);
        if (!old.defined()) continue;
        const bool bias = std::string_view(to_string(weight)).ends_with("_bias");
        changed_[{weight, component.layer}] = made(old, bias);
      }
    }
  }

  void project_out() {
    if (!options_.direction.defined()) return;
    const at::Tensor wide = options_.direction.to(at::kDouble);
    const at::Tensor unit = wide / wide.norm();
    change(options_.writers,
           [&](const at::Tensor& old, bool bias) { return without(old, unit, bias); });
  }

  void silence() {
    if (options_.silence.empty()) return;
    change(options_.silence, [](const at::Tensor& old, bool) { return at::zeros_like(old); });
  }

  // Beside a learned logit: both together weigh what either did.
  void put_slot() {
    if (!options_.sink_slot) return;
    for (int layer = 0; layer < config_.layers; ++layer) {
      at::Tensor slot = at::full({config_.heads}, *options_.sink_slot, at::kDouble);
      if (model_.config().sink_logits) {
        slot = at::logaddexp(slot, model_.weight(Weight::sinks, layer).to(at::kDouble).cpu());
      }
      changed_[{Weight::sinks, layer}] = slot.to(model_.device(), model_.dtype());
    }
    config_.sink_logits = true;
  }

  std::string why_not_written() const {
    std::vector<std::string> reasons;
    if (options_.sink_slot && !model_.config().sink_logits) {
      reasons.push_back(
          fmt::format("family {} has no learned sink logit to hold the slot", config_.family));
    }
    if (!options_.knock_out.empty())
      reasons.emplace_back("a knock-out at position 0 alone is no change of weights");
    if (options_.window > 0)
      reasons.emplace_back("a window that keeps the first tokens is a rule for the cache of keys");
    std::string text;
    for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
    return text;
  }

  const Model& model_;
  const EditOptions& options_;
  ModelConfig config_;
  std::map<std::pair<Weight, int>, at::Tensor> changed_ = {};
};

}  // namespace

std::vector<Component> edited_components(const std::string& text, const ModelConfig& config) {
  if (text.empty()) return components_of_blocks(0, config.layers);
  std::vector<Component> list;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find_first_of("+,", from), text.size());
    const std::string name = text.substr(from, end - from);
    int layer = -1;
    const char* last = name.data() + name.size();
    const bool known = name.size() > 1 && (name[0] == 'a' || name[0] == 'm') &&
                       std::from_chars(name.data() + 1, last, layer).ptr == last && layer >= 0;
    if (!known || layer >= config.layers) {
      refuse(fmt::format(
          "expected components like m1+m2, of a0-a{0} and m0-m{0}, got \"{1:.40}\" in \"{2:.80}\"",
          config.layers - 1, name, text));
    }
    list.push_back({.layer = layer, .mlp = name[0] == 'm'});
    from = end + 1;
  }
  return list;
}

void check(const EditOptions& options, const ModelConfig& config) {
  for (const std::string* set : {&options.writers, &options.silence, &options.knock_out})
    edited_components(*set, config);
  if (options.direction.defined()) {
    if (options.direction.dim() != 1 || options.direction.size(0) != config.d_model) {
      refuse(fmt::format("the direction must have {} entries, the width of the stream, not {}",
                         config.d_model, options.direction.numel()));
    }
    const double length = options.direction.to(at::kDouble).norm().item<double>();
    if (!(length > shortest_direction && length < std::numeric_limits<double>::infinity()))
      refuse(fmt::format("the direction has length {}", length));
    if (config.norm_place != NormPlace::before) {
      refuse(
          "what components write passes a norm before it joins the stream, whose gain would bring "
          "the direction back; it cannot be taken out of the weights");
    }
  } else if (!options.writers.empty()) {
    refuse("writers are given, but no direction to take out of what they write");
  }
  if (options.sink_slot && !(*options.sink_slot >= -1e4 && *options.sink_slot <= 1e4))
    refuse(fmt::format("the slot's score must be -10000 to 10000, not {}", *options.sink_slot));
  constexpr std::int64_t longest = std::int64_t{1} << 40;
  if (options.window < 0 || options.window > longest || options.keep < 0 || options.keep > longest)
    refuse("a window and the first tokens kept are counts, 0 or more");
  if (options.keep > 0 && options.window == 0)
    refuse("first tokens are kept beside a window, and there is none");
  for (const int bits : options.bits) {
    if (bits < 2 || bits > 16)
      refuse(fmt::format("numbers are rounded to 2 to 16 bits, not {}", bits));
  }
  if (!(options.epsilon > 0.0 && options.epsilon < 1.0))
    refuse(fmt::format("epsilon must lie between 0 and 1, not {}", options.epsilon));
}

EditedModel edit_weights(const Model& model, const EditOptions& options) {
  check(options, model.config());
  return Editor(model, options).edit();
}

SinkDirection find_sink_direction(const Model& model, const Inputs& inputs) {
  const SinkSurvey survey = survey_sink(model, inputs);
  const auto strongest = std::ranges::max_element(survey.waves, {}, &Wave::mean);
  if (strongest == survey.waves.end()) {
    refuse(
        "the inputs show no wave of sinks, and so no direction of one; name a file of one, or "
        "other inputs");
  }
  if (strongest->onset == 0)
    refuse("the strongest wave begins in block 0: no component writes before it");
  const at::Tensor state =
      survey.p0_mean_state[std::int64_t{2} * strongest->onset].to(at::kDouble).cpu();
  return {.direction = state / state.norm(),
          .onset = strongest->onset,
          .writers = to_string(components_of_blocks(0, strongest->onset))};
}

std::string write_edited(const EditedModel& edited, const Checkpoint& source,
                         const std::filesystem::path& directory) {
  if (!edited.not_written.empty()) refuse("no checkpoint can hold it: " + edited.not_written);
  std::error_code ignored;
  if (std::filesystem::exists(directory / "config.json", ignored))
    refuse(directory.string() + " holds a model already");
  const ModelConfig& config = edited.model.config();
  std::map<std::string, at::Tensor> tensors;
  for (const Weight weight : all_weights()) {
    const int layers = is_per_layer(weight) ? config.layers : 1;
    for (int layer = 0; layer < layers; ++layer) {
      if (weight_shape(config, weight, layer).empty()) continue;
      tensors[weight_name(weight, layer)] = edited.model.weight(weight, layer).detach().cpu();
    }
  }
  TokenizerFiles tokenizer;
  std::string problem;
  try {
    tokenizer = tokenizer_files(source.path(), config.context);
  } catch (const Error& error) {
    problem = error.what();
  }
  write_checkpoint(directory, config, tensors);
  for (const FileToWrite& file : tokenizer.files) {
    AtomicFile out(directory / file.name);
    out.write(file.text.data(), file.text.size());
    out.commit();
  }
  return problem;
}

}  // namespace plumb
