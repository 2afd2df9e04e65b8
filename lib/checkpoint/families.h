// The families plumb knows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/family.h"

namespace plumb {

extern const Family falcon_family;
extern const Family gemma_family;
extern const Family gemma2_family;
extern const Family gemma3_family;
extern const Family gpt2_family;
extern const Family gpt_neo_family;
extern const Family gpt_neox_family;
extern const Family gpt_oss_family;
extern const Family llama_family;
extern const Family llama4_family;
extern const Family llama4_text_family;
extern const Family mistral_family;
extern const Family mixtral_family;
extern const Family mpt_family;
extern const Family olmo_family;
extern const Family olmo2_family;
extern const Family olmo3_family;
extern const Family olmoe_family;
extern const Family opt_family;
extern const Family phi3_family;
extern const Family qwen2_family;
extern const Family qwen2_moe_family;
extern const Family qwen3_family;
extern const Family qwen3_moe_family;
extern const Family qwen3_next_family;
extern const Family smollm3_family;

/// Null when there is none of that name.
const Family* find_family(std::string_view model_type);

/// "gpt2, llama, ..."
std::string family_names();

/// The activation named in config.json; throws unsupported naming the field.
Activation read_activation(const Fields& fields, const std::string& field,
                           const std::string& fallback);
const char* activation_name(Activation activation);

/// Throws unsupported on fields of other architectures that would change the forward pass, except
/// those that the family reads.
void refuse_foreign_fields(const Fields& fields, const std::vector<std::string_view>& reads = {});

}  // namespace plumb
