// Kinds of attention that small models are trained with: the decoder's own, and those that a sink
// is compared with.
#pragma once

#include <string_view>
#include <vector>

#include "plumb/config.h"
#include "plumb/plan.h"

namespace plumb {

enum class AttentionKind {
  softmax,
  /// Softmax with a learned logit for each head that no key belongs to (arXiv:2309.17453 has it
  /// fixed at 0, where it begins here).
  sink_logit,
  /// Softmax; what the heads mix is multiplied by a sigmoid of the normalised stream
  /// (arXiv:2505.06708, element by element).
  gate,
  relu,     ///< max(score, 0) over the number of keys that the query sees (arXiv:2410.13835)
  sigmoid,  ///< sigmoid(score); rows need not sum to 1 (arXiv:2410.10781)
};
const char* to_string(AttentionKind kind) noexcept;
/// "softmax", "sink-logit", "gate", "relu" or "sigmoid". Throws bad_argument, listing them.
AttentionKind parse_attention_kind(std::string_view text);

/// The config with the switches that the kind needs, and without those of the others.
ModelConfig with_attention(ModelConfig config, AttentionKind kind);

/// What a plan must hold for the decoder to attend so: nothing but for `relu` and `sigmoid`, which
/// no switch of the decoder can say. They see scores after the mask, and replace the patterns.
std::vector<Intervention> attention_edits(const ModelConfig& config, AttentionKind kind);

}  // namespace plumb
