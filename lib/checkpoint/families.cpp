#include "checkpoint/families.h"

#include <algorithm>
#include <vector>

namespace plumb {
namespace {

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> all = {
      &falcon_family,     &gemma_family,     &gemma2_family,      &gemma3_family,
      &gpt2_family,       &gpt_neo_family,   &gpt_neox_family,    &gpt_oss_family,
      &llama_family,      &llama4_family,    &llama4_text_family, &mistral_family,
      &mixtral_family,    &mpt_family,       &olmo_family,        &olmo2_family,
      &olmo3_family,      &olmoe_family,     &opt_family,         &phi3_family,
      &qwen2_family,      &qwen2_moe_family, &qwen3_family,       &qwen3_moe_family,
      &qwen3_next_family, &smollm3_family};
  return all;
}

/// Null, false, an empty container: the field says nothing.
bool says_nothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_structured() && value.empty());
}

bool is_number(const Json& value, double number) {
  return value.is_number() && value.get<double>() == number;
}

}  // namespace

const Family* find_family(std::string_view model_type) {
  for (const Family* family : families()) {
    if (family->name == model_type) return family;
  }
  return nullptr;
}

std::string family_names() {
  std::string names;
  for (const Family* family : families()) {
    if (!names.empty()) names += ", ";
    names += family->name;
  }
  return names;
}

Activation read_activation(const Fields& fields, const std::string& field,
                           const std::string& fallback) {
  const std::string name = fields.text(field, fallback);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  fields.unsupported(field,
                     "but plumb knows silu, swish, gelu, gelu_new, gelu_pytorch_tanh and relu");
}

const char* activation_name(Activation activation) {
  switch (activation) {
    case Activation::silu: return "silu";
    case Activation::gelu: return "gelu";
    case Activation::gelu_tanh: return "gelu_new";
    case Activation::relu: return "relu";
  }
  return "silu";
}

void refuse_foreign_fields(const Fields& fields, const std::vector<std::string_view>& reads) {
  const auto foreign = [&](const char* field) {
    return std::find(reads.begin(), reads.end(), field) == reads.end();
  };
  for (const char* field :
       {"quantization_config", "compression_config", "attn_logit_softcapping", "clip_qkv",
        "final_logit_softcapping", "query_pre_attn_scalar", "attention_chunk_size", "use_qk_norm",
        "qk_layernorm", "is_encoder_decoder", "add_cross_attention", "alibi", "rope_interleaved",
        "parallel_attn", "use_parallel_residual", "rope_local_base_freq",
        "use_bidirectional_attention", "kv_lora_rank"}) {
    if (foreign(field) && !says_nothing(fields.raw(field))) {
      fields.unsupported(field, "which plumb does not handle");
    }
  }
  for (const char* field : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    const Json& value = fields.raw(field);
    if (foreign(field) && !says_nothing(value) && !is_number(value, 0)) {
      fields.unsupported(field,
                         "but plumb does not handle the mixtures of experts of this model type");
    }
  }
  for (const char* field : {"logits_scaling", "logit_scale", "residual_multiplier",
                            "embedding_multiplier", "partial_rotary_factor", "rotary_pct"}) {
    const Json& value = fields.raw(field);
    if (foreign(field) && !says_nothing(value) && !is_number(value, 1)) {
      fields.unsupported(field, "but plumb handles only 1");
    }
  }
  if (!says_nothing(fields.raw("attention_multiplier"))) {
    fields.unsupported("attention_multiplier", "which plumb does not handle");
  }
  if (!fields.flag("is_causal", true))
    fields.unsupported("is_causal", "but plumb's decoder is causal");
}

}  // namespace plumb
