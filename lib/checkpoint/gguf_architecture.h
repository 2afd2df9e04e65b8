// What an architecture of GGUF files has to say: how its metadata read, and where its tensors
// depart from the common names.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/family.h"
#include "checkpoint/gguf_metadata.h"

namespace plumb {

/// A new architecture is a row in gguf_architectures.cpp, with a function or two where it is not a
/// Llama.
struct GgufArchitecture {
  std::string_view name;    ///< general.architecture
  std::string_view family;  ///< ModelConfig::family
  /// Sets the switches. The sizes, the norm's epsilon and the biases, which the tensors tell, are
  /// known already.
  void (*read)(const GgufMetadata& metadata, ModelConfig& config);
  /// Corrects the place of a weight, which is `blk.N.` and the common name; null = nothing to do.
  void (*place)(const ModelConfig& config, Weight weight, int layer, Source& source);
  bool experts = false;  ///< its models may have some
};

/// Null when there is none of that name.
const GgufArchitecture* find_gguf_architecture(std::string_view name);

/// "gpt2, llama, ..."
std::string gguf_architecture_names();

}  // namespace plumb
