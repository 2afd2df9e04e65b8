#include "model/plan_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "plumb/error.h"

namespace plumb {

namespace {

[[noreturn]] void refuse(ErrorKind kind, const std::string& message) { throw Error(kind, message); }

void check_tokens(const ModelConfig& config, const Tokens& tokens) {
  if (!tokens.ids.defined() || tokens.ids.dim() != 2 || tokens.ids.scalar_type() != at::kLong ||
      tokens.ids.numel() == 0) {
    refuse(ErrorKind::bad_shape,
           "expected token ids as int64 [batch, position], not empty; see make_tokens");
  }
  const auto low = tokens.ids.min().item<std::int64_t>();
  const auto high = tokens.ids.max().item<std::int64_t>();
  if (low < 0 || high >= config.vocab) {
    refuse(ErrorKind::bad_argument,
           fmt::format("expected token ids of 0-{}, got {}; is this the right tokenizer?",
                       config.vocab - 1, low < 0 ? low : high));
  }
  const auto length = tokens.length();
  if (tokens.lengths.defined()) {
    if (tokens.lengths.dim() != 1 || tokens.lengths.scalar_type() != at::kLong ||
        tokens.lengths.size(0) != tokens.batch() || tokens.lengths.min().item<std::int64_t>() < 1 ||
        tokens.lengths.max().item<std::int64_t>() > length) {
      refuse(ErrorKind::bad_shape,
             fmt::format("expected the lengths of {} sequences as int64, each 1-{}", tokens.batch(),
                         length));
    }
  }
  if (!tokens.positions.empty()) {
    if (static_cast<std::int64_t>(tokens.positions.size()) != length ||
        *std::ranges::min_element(tokens.positions) < 0) {
      refuse(ErrorKind::bad_shape, fmt::format("expected {} position ids, none negative, got {}",
                                               length, tokens.positions.size()));
    }
  }
  if (config.positions == Positions::learned) {
    const auto highest =
        tokens.positions.empty() ? length - 1 : *std::ranges::max_element(tokens.positions);
    if (highest >= config.context) {
      refuse(ErrorKind::bad_argument, fmt::format("expected at most {} positions (the model has a "
                                                  "learned table), got {}; shorten the input",
                                                  config.context, highest + 1));
    }
  }
}

std::int64_t axis_size(Axis axis, const ModelConfig& config, const Tokens& tokens) {
  switch (axis) {
    case Axis::batch: return tokens.batch();
    case Axis::position:
    case Axis::query:
    case Axis::key: return tokens.length();
    case Axis::head: return config.heads;
    case Axis::kv_head: return config.kv_heads;
    case Axis::d_head: return config.d_head;
    case Axis::d_model: return config.d_model;
    case Axis::d_mlp: return config.d_mlp;
    case Axis::expert: return config.experts.count;
    case Axis::vocab: return config.vocab;
    case Axis::scale: return 1;
  }
  return 1;
}

std::string why_absent(const ModelConfig& config, const Site& site) {
  switch (site.part) {
    case Part::pos_embed: return "the model has no learned positions";
    case Part::ln1_scale: return "attention has no norm on what it reads";
    case Part::ln2_scale: return "the MLP has no norm on what it reads";
    case Part::ln1_post_scale: return "attention has no norm on what it writes";
    case Part::ln2_post_scale: return "the MLP has no norm on what it writes";
    case Part::sink_mass: return "the heads have no sink logits";
    case Part::z_gate: return "attention is not gated";
    case Part::mlp_pre:
    case Part::mlp_up:
    case Part::mlp_post:
      if (!is_sparse(config, site.layer)) return "the MLP is not gated";
      return fmt::format(
          "the MLP of block {} is a mixture of experts; see its router, expert_out and mlp_out",
          site.layer);
    case Part::router:
    case Part::expert_out:
    case Part::shared_out:
      if (is_sparse(config, site.layer)) return "the mixture of experts has no shared one";
      return fmt::format("the MLP of block {} is dense; see its mlp_post", site.layer);
    default: return "the model has no such part";
  }
}

// "layers 0-29", or of them those that there are.
std::string show_loaded(const Model& model) {
  const std::string all = fmt::format("layers 0-{}", model.all_layers() - 1);
  if (model.whole() && model.first_layer() == 0) return all;
  return fmt::format("{}, of which {}-{} were loaded", all, model.first_layer(),
                     model.config().layers - 1);
}

// A model of some blocks begins and ends with them.
void check_loaded(const Model& model, const Plan& plan) {
  const int first = plan.restart ? plan.restart->layer : 0;
  if (first < model.first_layer()) {
    refuse(ErrorKind::bad_argument,
           fmt::format("a run from block {} needs blocks that are not there: the model has {}; "
                       "restart at a later block, or load the model from layer 0",
                       first, show_loaded(model)));
  }
  if (!model.whole() && !plan.until && plan.logits == Logits::all) {
    refuse(ErrorKind::bad_argument,
           fmt::format("there are no logits without the last block: the model has {}; load it "
                       "whole, or ask for no logits",
                       show_loaded(model)));
  }
}

class SiteCheck {
 public:
  SiteCheck(const Model& model, const Tokens& tokens, const Plan& plan)
      : config_(model.config()),
        tokens_(tokens),
        loaded_(show_loaded(model)),
        first_(plan.restart ? plan.restart->layer : 0),
        last_(plan.until.value_or(config_.layers)),
        restarted_(plan.restart.has_value()),
        whole_(!plan.until.has_value() && model.whole()) {}

  // Shape of the selected entries.
  std::vector<std::int64_t> operator()(const Site& site, const Slice& where) const {
    exists(site);
    reached(site);
    std::vector<std::int64_t> shape;
    bool has_head = false;
    bool has_position = false;
    bool has_key = false;
    bool has_expert = false;
    bool has_unit = false;
    for (const Axis axis : axes(site.part)) {
      const auto size = axis_size(axis, config_, tokens_);
      const std::vector<std::int64_t>* chosen = nullptr;
      switch (axis) {
        case Axis::head:
        case Axis::kv_head:
          chosen = &where.heads;
          has_head = true;
          break;
        case Axis::position:
        case Axis::query:
          chosen = &where.positions;
          has_position = true;
          break;
        case Axis::key:
          chosen = &where.keys;
          has_key = true;
          break;
        case Axis::expert:
          chosen = &where.experts;
          has_expert = true;
          break;
        case Axis::d_head:
        case Axis::d_model:
        case Axis::d_mlp:
        case Axis::vocab:
          chosen = &where.units;
          has_unit = true;
          break;
        case Axis::batch:
        case Axis::scale: break;
      }
      shape.push_back(chosen == nullptr || chosen->empty() ? size
                                                           : indices(site, axis, *chosen, size));
    }
    absent(site, where.heads, has_head, "heads");
    absent(site, where.positions, has_position, "positions");
    absent(site, where.keys, has_key, "keys");
    absent(site, where.experts, has_expert, "experts");
    absent(site, where.units, has_unit, "units");
    return shape;
  }

 private:
  void exists(const Site& site) const {
    const auto name = to_string(site);
    if (site.layer < 0 || (per_layer(site.part) ? site.layer >= config_.layers : site.layer != 0)) {
      refuse(ErrorKind::bad_argument,
             fmt::format("{} does not exist: the model has {}", name, loaded_));
    }
    if (!has_part(config_, site.part, site.layer)) {
      refuse(ErrorKind::bad_argument,
             fmt::format("{} does not exist: {}", name, why_absent(config_, site)));
    }
  }

  void reached(const Site& site) const {
    bool met = true;
    if (per_layer(site.part)) {
      met = site.layer >= first_ && site.layer < last_;
    } else if (site.part == Part::embed || site.part == Part::pos_embed) {
      met = !restarted_;
    } else {
      met = whole_;
    }
    if (!met) {
      refuse(ErrorKind::bad_argument,
             fmt::format("{} is never reached: the plan runs blocks {} to {} only, of {}",
                         to_string(site), first_, last_ - 1, loaded_));
    }
  }

  static std::int64_t indices(const Site& site, Axis axis, const std::vector<std::int64_t>& chosen,
                              std::int64_t size) {
    std::set<std::int64_t> seen;
    for (const auto index : chosen) {
      if (index < 0 || index >= size) {
        refuse(ErrorKind::bad_argument,
               fmt::format("{} has {} entries on the axis {}, so index {} does not exist",
                           to_string(site), size, to_string(axis), index));
      }
      if (!seen.insert(index).second) {
        refuse(ErrorKind::bad_argument, fmt::format("index {} stands twice on the axis {} of {}",
                                                    index, to_string(axis), to_string(site)));
      }
    }
    return static_cast<std::int64_t>(chosen.size());
  }

  static void absent(const Site& site, const std::vector<std::int64_t>& chosen, bool has,
                     std::string_view what) {
    if (!has && !chosen.empty()) {
      refuse(ErrorKind::bad_argument,
             fmt::format("{} has no {} to choose from", to_string(site), what));
    }
  }

  const ModelConfig& config_;
  const Tokens& tokens_;
  std::string loaded_;
  int first_;
  int last_;
  bool restarted_;
  bool whole_;
};

void check_broadcast(const Site& site, const at::Tensor& tensor, std::vector<std::int64_t> shape,
                     std::string_view what) {
  bool fits = tensor.defined() && tensor.dim() <= static_cast<std::int64_t>(shape.size()) &&
              at::isFloatingType(tensor.scalar_type());
  for (std::int64_t back = 1; fits && back <= tensor.dim(); ++back) {
    const auto size = tensor.size(-back);
    fits = size == 1 || size == shape[shape.size() - static_cast<std::size_t>(back)];
  }
  if (!fits) {
    refuse(ErrorKind::bad_shape,
           fmt::format(
               "the {} at {} must be a floating tensor that broadcasts to [{}], got {}", what,
               to_string(site), fmt::join(shape, ", "),
               tensor.defined() ? fmt::format("[{}]", fmt::join(tensor.sizes(), ", ")) : "none"));
  }
}

void check_edit(const Intervention& intervention, std::vector<std::int64_t> shape) {
  const Site& site = intervention.site;
  if (const auto* put = std::get_if<Put>(&intervention.edit)) {
    check_broadcast(site, put->value, shape, "value to put");
  } else if (const auto* add = std::get_if<Add>(&intervention.edit)) {
    check_broadcast(site, add->delta, shape, "tensor to add");
  } else if (const auto* project = std::get_if<ProjectOut>(&intervention.edit)) {
    check_broadcast(site, project->direction, {shape.back()}, "direction to project out");
    if (project->direction.numel() != shape.back() ||
        project->direction.norm().item<double>() == 0.0) {
      refuse(ErrorKind::bad_shape,
             fmt::format("the direction to project out at {} must have {} entries, not all zero",
                         to_string(site), shape.back()));
    }
  } else if (const auto* clamp = std::get_if<ClampNorm>(&intervention.edit)) {
    shape.back() = 1;
    check_broadcast(site, clamp->norm, shape, "norm to clamp to");
  } else if (std::holds_alternative<Hide>(intervention.edit) ||
             std::holds_alternative<OnlySelf>(intervention.edit)) {
    if (site.part != Part::scores) {
      refuse(ErrorKind::bad_argument,
             fmt::format("keys are hidden at L{}.scores, not at {}", site.layer, to_string(site)));
    }
    if (std::holds_alternative<OnlySelf>(intervention.edit) && !intervention.where.keys.empty()) {
      refuse(ErrorKind::bad_argument,
             fmt::format("OnlySelf at {} takes queries (t=), not keys", to_string(site)));
    }
  } else if (const auto* custom = std::get_if<Custom>(&intervention.edit)) {
    if (!custom->fn) {
      refuse(ErrorKind::bad_argument,
             fmt::format("the edit \"{}\" at {} has no function", custom->label, to_string(site)));
    }
  }
}

}  // namespace

bool has_part(const ModelConfig& config, Part part, int layer) {
  switch (part) {
    case Part::pos_embed: return config.positions == Positions::learned;
    case Part::ln1_scale:
    case Part::ln2_scale: return config.norm_place != NormPlace::after;
    case Part::ln1_post_scale:
    case Part::ln2_post_scale: return config.norm_place != NormPlace::before;
    case Part::sink_mass: return config.sink_logits;
    case Part::z_gate: return config.gated_attention;
    case Part::mlp_up: return config.gated_mlp && !is_sparse(config, layer);
    case Part::mlp_pre:
    case Part::mlp_post: return !is_sparse(config, layer);
    case Part::router:
    case Part::expert_out: return is_sparse(config, layer);
    case Part::shared_out: return is_sparse(config, layer) && config.experts.shared_width > 0;
    default: return true;
  }
}

void check(const Model& model, const Tokens& tokens, const Plan& plan) {
  const auto& config = model.config();
  check_tokens(config, tokens);
  const int first = plan.restart ? plan.restart->layer : 0;
  if (first < 0 || first > config.layers) {
    refuse(ErrorKind::bad_argument,
           fmt::format("cannot restart at block {}: the model has blocks 0-{}", first,
                       config.layers - 1));
  }
  if (plan.restart) {
    const at::Tensor& stream = plan.restart->resid_pre;
    const std::vector<std::int64_t> wanted{tokens.batch(), tokens.length(), config.d_model};
    if (!stream.defined() || stream.sizes() != c10::IntArrayRef(wanted)) {
      refuse(ErrorKind::bad_shape,
             fmt::format("the stream to restart from must be [{}]", fmt::join(wanted, ", ")));
    }
  }
  if (plan.until && (*plan.until < first || *plan.until > config.layers)) {
    refuse(
        ErrorKind::bad_argument,
        fmt::format("cannot stop before block {}: the run starts at {} and the model has {} blocks",
                    *plan.until, first, config.layers));
  }
  check_loaded(model, plan);
  const SiteCheck selected(model, tokens, plan);
  std::set<std::pair<Site, std::string>> kept;
  for (const auto& record : plan.record) {
    selected(record.site, record.where);
    if (!kept.emplace(record.site, record.label).second) {
      refuse(ErrorKind::bad_argument,
             fmt::format("{} is recorded twice under one label; give each record its own",
                         to_string(record.site)));
    }
  }
  for (const auto& intervention : plan.interventions) {
    check_edit(intervention, selected(intervention.site, intervention.where));
  }
}

}  // namespace plumb
