// The families plumb knows.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/family.h"

namespace plumb {

extern const Family gpt2_family;
extern const Family llama_family;
extern const Family mistral_family;
extern const Family qwen2_family;
extern const Family qwen3_family;
extern const Family smollm3_family;

/// Null when there is none of that name.
const Family* find_family(std::string_view model_type);

/// "gpt2, llama, ..."
std::string family_names();

/// The activation named in config.json; throws unsupported naming the field.
Activation read_activation(const Fields& fields, const std::string& field,
                           const std::string& fallback);
const char* activation_name(Activation activation);

/// Throws unsupported on fields of other architectures that would change the forward pass.
void refuse_foreign_fields(const Fields& fields);

}  // namespace plumb
