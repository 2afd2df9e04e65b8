#include "checkpoint/llama_moe.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "checkpoint/llama_like.h"

namespace plumb {

const std::vector<std::string_view> expert_counts = {"num_experts", "num_local_experts"};

Experts read_experts(const Fields& fields, const char* width) {
  for (const char* field :
       {"n_group", "topk_group", "routed_scaling_factor", "scoring_func", "topk_method",
        "n_shared_experts", "moe_layer_freq", "first_k_dense_replace"}) {
    if (fields.has(field)) fields.unsupported(field, "which plumb does not handle");
  }
  const auto count = [&](const char* field, std::int64_t most) {
    return static_cast<int>(fields.integer(field, 1, most));
  };
  constexpr std::int64_t most_experts = 65536;
  Experts experts;
  const char* name = fields.has("num_local_experts") ? "num_local_experts" : "num_experts";
  experts.count = count(name, most_experts);
  experts.per_token = count("num_experts_per_tok", experts.count);
  experts.width = count(width, INT32_MAX);
  experts.normalise = fields.flag("norm_topk_prob", false);
  return experts;
}

std::vector<std::uint8_t> read_sparse_layers(const Fields& fields, int layers) {
  const std::int64_t step = fields.integer("decoder_sparse_step", 1, INT32_MAX, 1);
  std::vector<std::uint8_t> sparse(static_cast<std::size_t>(layers));
  bool all = true;
  for (int layer = 0; layer < layers; ++layer) {
    sparse[static_cast<std::size_t>(layer)] = (layer + 1) % step == 0;
  }
  if (fields.has("mlp_only_layers")) {
    for (const std::int64_t layer : fields.integers("mlp_only_layers", 0, INT32_MAX)) {
      if (layer < layers) sparse[static_cast<std::size_t>(layer)] = 0;
    }
  }
  for (const std::uint8_t one : sparse) all = all && one != 0;
  return all ? std::vector<std::uint8_t>() : sparse;
}

Source llama_moe_source(const ModelConfig& config, Weight weight, int layer) {
  const auto at = [&](const char* name) {
    return Source{.tensor = fmt::format("model.layers.{}.mlp.{}.weight", layer, name)};
  };
  const auto split = [&](const char* name) {
    return Source{.tensor = fmt::format("model.layers.{}.mlp.experts.", layer),
                  .after_expert = fmt::format(".{}.weight", name)};
  };
  switch (weight) {
    case Weight::router: return at("gate");
    case Weight::expert_gate: return split("gate_proj");
    case Weight::expert_up: return split("up_proj");
    case Weight::expert_down: return split("down_proj");
    case Weight::shared_router: return at("shared_expert_gate");
    case Weight::shared_gate: return at("shared_expert.gate_proj");
    case Weight::shared_up: return at("shared_expert.up_proj");
    case Weight::shared_down: return at("shared_expert.down_proj");
    default: return llama_like_source(config, weight, layer);
  }
}

void write_experts(const ModelConfig& config, const char* width, Json& json) {
  json["num_experts"] = config.experts.count;
  json["num_experts_per_tok"] = config.experts.per_token;
  json["norm_topk_prob"] = config.experts.normalise;
  json[width] = config.experts.width;
}

void write_sparse_layers(const ModelConfig& config, Json& json) {
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (int layer = 0; layer < config.layers; ++layer) {
    if (!is_sparse(config, layer)) json["mlp_only_layers"].push_back(layer);
  }
}

}  // namespace plumb
