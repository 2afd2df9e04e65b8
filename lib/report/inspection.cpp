#include "report/inspection.h"

#include <fmt/format.h>

#include <algorithm>

#include "plumb/model.h"
#include "plumb/site.h"

namespace plumb::report {
namespace {

std::string show(const Rope& rope) {
  std::string text = fmt::format("rotary, theta {:g}, {} channels", rope.theta, rope.dims);
  switch (rope.scaling) {
    case RopeScaling::none: break;
    case RopeScaling::linear: text += fmt::format(", linear scaling by {:g}", rope.factor); break;
    case RopeScaling::dynamic: text += fmt::format(", dynamic scaling by {:g}", rope.factor); break;
    case RopeScaling::llama3: text += fmt::format(", llama3 scaling by {:g}", rope.factor); break;
    case RopeScaling::yarn: text += fmt::format(", yarn scaling by {:g}", rope.factor); break;
    case RopeScaling::longrope: text += ", longrope scaling"; break;
  }
  return text;
}

std::string show_positions(const ModelConfig& config) {
  switch (config.positions) {
    case Positions::learned: return "learned table";
    case Positions::none: return "none";
    case Positions::alibi: return fmt::format("alibi, slopes down to 2^-{:g}", config.alibi_bias);
    case Positions::rope: break;
  }
  const auto still = std::count(config.rope_layers.begin(), config.rope_layers.end(), 0);
  std::string text = show(config.rope);
  if (still > 0) text += fmt::format(", none in {} blocks", still);
  if (config.window_rope.dims > 0)
    text += fmt::format("; {} in blocks with a window", show(config.window_rope));
  return text;
}

std::string show_windows(const std::vector<int>& windows, bool chunked) {
  const auto windowed = std::count_if(windows.begin(), windows.end(), [](int w) { return w > 0; });
  if (windowed == 0) return "every query sees all keys before it";
  const int widest = *std::max_element(windows.begin(), windows.end());
  return fmt::format("{} in {} blocks, at most {} keys", chunked ? "chunks" : "sliding windows",
                     windowed, widest);
}

const char* show(Activation activation) {
  switch (activation) {
    case Activation::silu: return "silu";
    case Activation::gelu: return "gelu";
    case Activation::gelu_tanh: return "gelu (tanh form)";
    case Activation::relu: return "relu";
  }
  return "";
}

std::string show_biases(const ModelConfig& config) {
  std::vector<std::string> where;
  if (config.qkv_bias) where.emplace_back("queries, keys and values");
  if (config.out_bias) where.emplace_back("attention output");
  if (config.mlp_bias) where.emplace_back("MLP");
  return where.empty() ? "none" : fmt::format("{}", fmt::join(where, "; "));
}

std::int64_t size_of(Axis axis, const ModelConfig& config) {
  switch (axis) {
    case Axis::batch:
    case Axis::position:
    case Axis::query:
    case Axis::key: return 0;
    case Axis::head: return config.heads;
    case Axis::kv_head: return config.kv_heads;
    case Axis::d_head: return config.d_head;
    case Axis::d_model: return config.d_model;
    case Axis::d_mlp: return config.d_mlp;
    case Axis::expert: return config.experts.count;
    case Axis::vocab: return config.vocab;
    case Axis::scale: return 1;
  }
  return 0;
}

std::string show_norm(const ModelConfig& config) {
  std::string text = config.norm == Norm::rms ? "rms" : "layer";
  text += fmt::format(", epsilon {:g}", config.norm_eps);
  if (config.norm_place == NormPlace::after) text += ", on what attention and MLP write";
  if (config.norm_place == NormPlace::both) text += ", on what attention and MLP read and write";
  if (!config.norm_gain) text += ", without gains";
  if (config.norm == Norm::layer && config.norm_gain && !config.norm_bias)
    text += ", without biases";
  return text;
}

const char* show(QkNorm norm) {
  switch (norm) {
    case QkNorm::none: return "no";
    case QkNorm::head: return "yes";
    case QkNorm::whole: return "over all heads at once";
    case QkNorm::rotated: return "after rotation, without gains";
  }
  return "";
}

// Switches that few models set.
void add_rare(const ModelConfig& config, std::vector<std::pair<std::string, std::string>>& rows) {
  if (config.parallel) {
    rows.emplace_back("block", config.shared_norm ? "attention and MLP in parallel, one norm"
                                                  : "attention and MLP in parallel");
  }
  const auto number = [&](const char* name, double value, double usual) {
    if (value != usual) rows.emplace_back(name, fmt::format("{:g}", value));
  };
  number("embed_scale", config.embed_scale, 1.0);
  number("attention_scale", config.attention_scale, 0.0);
  number("score_cap", config.score_cap, 0.0);
  number("logit_cap", config.logit_cap, 0.0);
  number("qkv_clip", config.qkv_clip, 0.0);
  if (config.positions == Positions::alibi) number("alibi_scale", config.alibi_scale, 1.0);
  if (config.rope.query_growth != 0) {
    rows.emplace_back("query_growth",
                      fmt::format("{:g}, a step every {} positions, in blocks without rotation",
                                  config.rope.query_growth, config.rope.query_span));
  }
  if (config.sink_logits) rows.emplace_back("sink_logits", "one for each head");
  if (config.gated_attention) rows.emplace_back("attention_gate", "sigmoid, channel by channel");
}

bool has(const ModelConfig& config, Part part) {
  const int layers = per_layer(part) ? config.layers : 1;
  for (int layer = 0; layer < layers; ++layer) {
    if (has_part(config, part, layer)) return true;
  }
  return false;
}

int sparse_layers(const ModelConfig& config) {
  int count = 0;
  for (int layer = 0; layer < config.layers; ++layer) count += is_sparse(config, layer) ? 1 : 0;
  return count;
}

std::string show_mlp(const ModelConfig& config) {
  if (sparse_layers(config) == config.layers) return "none: every block has experts";
  return fmt::format("{}{}, width {}", config.gated_mlp ? "gated " : "", show(config.activation),
                     config.d_mlp);
}

std::string show_experts(const ModelConfig& config) {
  const Experts& experts = config.experts;
  const int sparse = sparse_layers(config);
  if (sparse == 0) return "none";
  std::string text = fmt::format(
      "{} in {}, {} for each token, gated {}, width {}", experts.count,
      sparse == config.layers ? "every block" : fmt::format("{} blocks", sparse), experts.per_token,
      experts.limit > 0 ? "sigmoid, clamped" : show(config.activation), experts.width);
  text += experts.normalise ? "; chosen probabilities divided by their sum"
          : experts.sigmoid ? "; probabilities as sigmoids give them"
                            : "; probabilities as the softmax over all experts gives them";
  if (experts.weigh_input) text += ", on what experts read";
  if (experts.shared_width > 0) {
    text += fmt::format("; a shared expert{}, width {}",
                        experts.shared_gated ? "" : " without gate", experts.shared_width);
  }
  return text;
}

std::int64_t elements_of(const ModelConfig& config, Weight weight, int layer) {
  const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
  if (shape.empty()) return 0;
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size;
  return elements;
}

std::int64_t parameters_of(const ModelConfig& config, int layer) {
  std::int64_t parameters = 0;
  for (const Weight weight : all_weights()) {
    if (is_per_layer(weight)) parameters += elements_of(config, weight, layer);
  }
  return parameters;
}

const char* part_of(Weight weight) {
  switch (weight) {
    case Weight::embed: return "embedding";
    case Weight::pos_embed: return "positions";
    case Weight::unembed: return "unembedding";
    case Weight::ln1:
    case Weight::ln1_bias:
    case Weight::ln1_post:
    case Weight::ln2:
    case Weight::ln2_bias:
    case Weight::ln2_post:
    case Weight::q_norm:
    case Weight::k_norm:
    case Weight::final_norm:
    case Weight::final_norm_bias: return "norms";
    default: break;
  }
  if (weight < Weight::ln2) return "attention";
  return weight < Weight::router ? "mlp" : "experts";
}

// Of all blocks together, in the order in which a pass meets them.
std::vector<std::pair<std::string, std::int64_t>> parameters_by_part(const ModelConfig& config) {
  std::vector<std::pair<std::string, std::int64_t>> parts;
  for (const char* name :
       {"embedding", "positions", "attention", "mlp", "experts", "norms", "unembedding"}) {
    std::int64_t elements = 0;
    for (const Weight weight : all_weights()) {
      if (std::string_view(part_of(weight)) != name) continue;
      const int layers = is_per_layer(weight) ? config.layers : 1;
      for (int layer = 0; layer < layers; ++layer) elements += elements_of(config, weight, layer);
    }
    if (elements > 0) parts.emplace_back(name, elements);
  }
  return parts;
}

}  // namespace

Inspection look_at(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  Inspection found;
  found.switches = {
      {"attention", fmt::format("{} query heads, {} key heads of width {}", config.heads,
                                config.kv_heads, config.d_head)},
      {"qk_norm", show(config.qk_norm)},
      {"window", show_windows(config.windows, config.chunked)},
      {"positions", show_positions(config)},
      {"norm", show_norm(config)},
      {"mlp", show_mlp(config)},
      {"experts", show_experts(config)},
      {"biases", show_biases(config)},
      {"unembedding", config.tied ? "tied to the embedding" : "its own"},
  };
  add_rare(config, found.switches);
  for (int i = 0; i < part_count; ++i) {
    const auto part = static_cast<Part>(i);
    if (!has(config, part)) continue;
    SiteShape site;
    site.name = to_string(part);
    site.tl_name = tl_name({part, 0});
    site.per_layer = per_layer(part);
    for (const Axis axis : axes(part)) {
      site.axes.emplace_back(to_string(axis));
      site.shape.push_back(size_of(axis, config));
    }
    found.sites.push_back(std::move(site));
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    found.parameters_per_block = std::max(found.parameters_per_block, parameters_of(config, layer));
  }
  found.parameters = parameters_by_part(config);
  for (const TensorInfo& tensor : checkpoint.tensors()) found.stored[tensor.dtype] += tensor.bytes;
  return found;
}

}  // namespace plumb::report
