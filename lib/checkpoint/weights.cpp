// The canonical weights of a decoder: names, existence, shapes.
#include <fmt/format.h>

#include "plumb/checkpoint.h"

namespace plumb {

const char* to_string(Weight weight) noexcept {
  switch (weight) {
    case Weight::embed: return "embed";
    case Weight::pos_embed: return "pos_embed";
    case Weight::ln1: return "ln1";
    case Weight::ln1_bias: return "ln1_bias";
    case Weight::q: return "q";
    case Weight::q_bias: return "q_bias";
    case Weight::k: return "k";
    case Weight::k_bias: return "k_bias";
    case Weight::v: return "v";
    case Weight::v_bias: return "v_bias";
    case Weight::q_norm: return "q_norm";
    case Weight::k_norm: return "k_norm";
    case Weight::sinks: return "sinks";
    case Weight::z_gate: return "z_gate";
    case Weight::out: return "out";
    case Weight::out_bias: return "out_bias";
    case Weight::ln1_post: return "ln1_post";
    case Weight::ln2: return "ln2";
    case Weight::ln2_bias: return "ln2_bias";
    case Weight::gate: return "gate";
    case Weight::gate_bias: return "gate_bias";
    case Weight::up: return "up";
    case Weight::up_bias: return "up_bias";
    case Weight::down: return "down";
    case Weight::down_bias: return "down_bias";
    case Weight::router: return "router";
    case Weight::router_bias: return "router_bias";
    case Weight::expert_gate: return "expert_gate";
    case Weight::expert_gate_bias: return "expert_gate_bias";
    case Weight::expert_up: return "expert_up";
    case Weight::expert_up_bias: return "expert_up_bias";
    case Weight::expert_down: return "expert_down";
    case Weight::expert_down_bias: return "expert_down_bias";
    case Weight::shared_router: return "shared_router";
    case Weight::shared_gate: return "shared_gate";
    case Weight::shared_up: return "shared_up";
    case Weight::shared_down: return "shared_down";
    case Weight::ln2_post: return "ln2_post";
    case Weight::final_norm: return "final_norm";
    case Weight::final_norm_bias: return "final_norm_bias";
    case Weight::unembed: return "unembed";
  }
  return "unknown";
}

const std::vector<Weight>& all_weights() {
  static const std::vector<Weight> weights = {
      Weight::embed,
      Weight::pos_embed,
      Weight::ln1,
      Weight::ln1_bias,
      Weight::q,
      Weight::q_bias,
      Weight::k,
      Weight::k_bias,
      Weight::v,
      Weight::v_bias,
      Weight::q_norm,
      Weight::k_norm,
      Weight::sinks,
      Weight::z_gate,
      Weight::out,
      Weight::out_bias,
      Weight::ln1_post,
      Weight::ln2,
      Weight::ln2_bias,
      Weight::gate,
      Weight::gate_bias,
      Weight::up,
      Weight::up_bias,
      Weight::down,
      Weight::down_bias,
      Weight::router,
      Weight::router_bias,
      Weight::expert_gate,
      Weight::expert_gate_bias,
      Weight::expert_up,
      Weight::expert_up_bias,
      Weight::expert_down,
      Weight::expert_down_bias,
      Weight::shared_router,
      Weight::shared_gate,
      Weight::shared_up,
      Weight::shared_down,
      Weight::ln2_post,
      Weight::final_norm,
      Weight::final_norm_bias,
      Weight::unembed,
  };
  return weights;
}

bool is_per_layer(Weight weight) noexcept {
  switch (weight) {
    case Weight::embed:
    case Weight::pos_embed:
    case Weight::final_norm:
    case Weight::final_norm_bias:
    case Weight::unembed: return false;
    default: return true;
  }
}

bool is_per_expert(Weight weight) noexcept {
  switch (weight) {
    case Weight::expert_gate:
    case Weight::expert_gate_bias:
    case Weight::expert_up:
    case Weight::expert_up_bias:
    case Weight::expert_down:
    case Weight::expert_down_bias: return true;
    default: return false;
  }
}

bool is_sparse(const ModelConfig& config, int layer) {
  const Experts& experts = config.experts;
  return experts.count > 0 &&
         (experts.layers.empty() || experts.layers[static_cast<std::size_t>(layer)] != 0);
}

std::string weight_name(Weight weight, int layer) {
  return is_per_layer(weight) ? fmt::format("L{}.{}", layer, to_string(weight)) : to_string(weight);
}

std::vector<std::int64_t> weight_shape(const ModelConfig& config, Weight weight, int layer) {
  using Shape = std::vector<std::int64_t>;
  if (is_per_layer(weight) && (layer < 0 || layer >= config.layers)) return {};
  const std::int64_t d_model = config.d_model;
  const std::int64_t queries = std::int64_t{config.heads} * config.d_head;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.d_head;
  const auto when = [](bool exists, Shape shape) { return exists ? shape : Shape(); };
  const bool reads = config.norm_place != NormPlace::after && config.norm_gain;
  const bool writes = config.norm_place != NormPlace::before && config.norm_gain;
  const bool biased = config.norm == Norm::layer && config.norm_bias;
  const bool whole = config.qk_norm == QkNorm::whole;
  const bool headwise = config.qk_norm == QkNorm::head;
  const Experts& experts = config.experts;
  const bool sparse = is_per_layer(weight) && is_sparse(config, layer);
  const bool gated = !sparse && config.gated_mlp;
  const bool mlp_biased = !sparse && config.mlp_bias;
  const bool shared = sparse && experts.shared_width > 0;
  switch (weight) {
    case Weight::embed: return {config.vocab, d_model};
    case Weight::unembed: return when(!config.tied, {config.vocab, d_model});
    case Weight::pos_embed:
      return when(config.positions == Positions::learned, {config.context, d_model});
    case Weight::ln1: return when(reads, {d_model});
    case Weight::ln2: return when(reads && !config.shared_norm, {d_model});
    case Weight::ln1_bias: return when(reads && biased, {d_model});
    case Weight::ln2_bias: return when(reads && biased && !config.shared_norm, {d_model});
    case Weight::ln1_post:
    case Weight::ln2_post: return when(writes, {d_model});
    case Weight::final_norm: return when(config.norm_gain, {d_model});
    case Weight::final_norm_bias: return when(config.norm_gain && biased, {d_model});
    case Weight::q: return {queries, d_model};
    case Weight::k:
    case Weight::v: return {keys, d_model};
    case Weight::q_bias: return when(config.qkv_bias, {queries});
    case Weight::k_bias:
    case Weight::v_bias: return when(config.qkv_bias, {keys});
    case Weight::q_norm: return when(whole || headwise, {whole ? queries : config.d_head});
    case Weight::k_norm: return when(whole || headwise, {whole ? keys : config.d_head});
    case Weight::sinks: return when(config.sink_logits, {config.heads});
    case Weight::z_gate: return when(config.gated_attention, {queries, d_model});
    case Weight::out: return {d_model, queries};
    case Weight::out_bias: return when(config.out_bias, {d_model});
    case Weight::gate: return when(gated, {config.d_mlp, d_model});
    case Weight::gate_bias: return when(gated && mlp_biased, {config.d_mlp});
    case Weight::up: return when(!sparse, {config.d_mlp, d_model});
    case Weight::up_bias: return when(mlp_biased, {config.d_mlp});
    case Weight::down: return when(!sparse, {d_model, config.d_mlp});
    case Weight::down_bias: return when(mlp_biased, {d_model});
    case Weight::router: return when(sparse, {experts.count, d_model});
    case Weight::router_bias: return when(sparse && experts.router_bias, {experts.count});
    case Weight::expert_gate:
    case Weight::expert_up: return when(sparse, {experts.count, experts.width, d_model});
    case Weight::expert_gate_bias:
    case Weight::expert_up_bias:
      return when(sparse && experts.biases, {experts.count, experts.width});
    case Weight::expert_down: return when(sparse, {experts.count, d_model, experts.width});
    case Weight::expert_down_bias: return when(sparse && experts.biases, {experts.count, d_model});
    case Weight::shared_router: return when(shared && experts.shared_gated, {1, d_model});
    case Weight::shared_gate:
    case Weight::shared_up: return when(shared, {experts.shared_width, d_model});
    case Weight::shared_down: return when(shared, {d_model, experts.shared_width});
  }
  return {};
}

}  // namespace plumb
