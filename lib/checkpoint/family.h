// What a model family has to say: how its config.json reads, and what its tensors are called.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/json.h"
#include "plumb/checkpoint.h"
#include "plumb/config.h"

namespace plumb {

/// Where a canonical weight lies in a file. A stored matrix has `outputs` rows; the weight is those
/// from `first` on, or groups of them. The parts of a weight that `is_per_expert` are described
/// alike: one stored tensor for each, or one tensor for all, its first axis that of the experts.
struct Source {
  std::string tensor = {};
  std::string after_expert = {};  ///< not empty: expert e's tensor is `tensor`, e, then this
  bool transposed = false;        ///< stored as [inputs, outputs]
  std::int64_t first = 0;
  std::int64_t outputs = -1;  ///< of the stored tensor; -1 = those of the weight
  int interleaved_heads = 0;  ///< > 0: rows of each head pair 2i with 2i + 1
  std::int64_t group = 0;     ///< > 0: so many rows from `first` on, again after `stride` rows, ...
  std::int64_t stride = 0;
  double offset = 0.0;  ///< added to every value when read
  bool flat = false;    ///< a matrix of one row, stored as a vector

  bool split() const { return !after_expert.empty(); }
  std::string tensor_of(int expert) const {
    return split() ? tensor + std::to_string(expert) + after_expert : tensor;
  }
};

/// One family of Hugging Face models. A new one is a file with a constant of this type, and a line
/// in families.h and families.cpp.
struct Family {
  std::string_view name;  ///< the model_type
  /// Begins the names of all tensors but the unembedding; files of the bare decoder leave it out.
  std::string_view prefix;
  /// Below the prefix, what the names of the layers' tensors begin with: "layers.".
  std::string_view layers;
  /// Reads config.json; throws bad_file or unsupported naming the field.
  ModelConfig (*read)(const Fields& fields);
  /// The weight's place; called only for weights that the config has.
  Source (*source)(const ModelConfig& config, Weight weight, int layer);
  /// Whether a tensor that no weight needs may be there (buffers).
  bool (*ignores)(std::string_view tensor);
  /// config.json for `read`, as transformers reads it too.
  Json (*write)(const ModelConfig& config);
};

}  // namespace plumb
