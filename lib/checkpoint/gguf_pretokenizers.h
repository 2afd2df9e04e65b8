// The splitting steps that `tokenizer.ggml.pre` names.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/tokenizer_files.h"

namespace plumb {

/// What is known of a name beyond its splitting steps.
struct GgufPreTokenizer {
  bool adds_bos = false;  ///< where the file does not say
};

/// Adds the steps of `name` to the spec. Throws unsupported, listing the names plumb knows, for
/// another. llama.cpp gives the steps; the original tokenizer.json's patterns are used where it had
/// to rewrite them.
GgufPreTokenizer add_gguf_pretokenizer(std::string_view name, bool space_prefix,
                                       TokenizerSpec& spec);

}  // namespace plumb
