#include "plumb/attention_kind.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "plumb/error.h"

namespace plumb {

namespace {

constexpr std::array<const char*, 5> names = {"softmax", "sink-logit", "gate", "relu", "sigmoid"};

// Scores on their way past the softmax. A pass over one tile belongs to one thread, which meets a
// layer's pattern right after its scores.
at::Tensor& passing_scores() {
  thread_local at::Tensor scores;
  return scores;
}

at::Tensor relu_pattern(const at::Tensor& scores) {
  const at::Tensor keys =
      at::arange(1, scores.size(2) + 1, scores.options().requires_grad(false)).unsqueeze(1);
  return scores.relu() / keys;
}

}  // namespace

const char* to_string(AttentionKind kind) noexcept { return names[static_cast<std::size_t>(kind)]; }

AttentionKind parse_attention_kind(std::string_view text) {
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return static_cast<AttentionKind>(found - names.begin());
  throw Error(ErrorKind::bad_argument,
              fmt::format("no attention \"{:.40}\": {}", text, fmt::join(names, ", ")));
}

ModelConfig with_attention(ModelConfig config, AttentionKind kind) {
  config.sink_logits = kind == AttentionKind::sink_logit;
  config.gated_attention = kind == AttentionKind::gate;
  return config;
}

std::vector<Intervention> attention_edits(const ModelConfig& config, AttentionKind kind) {
  if (kind != AttentionKind::relu && kind != AttentionKind::sigmoid) return {};
  const std::string name = to_string(kind);
  std::vector<Intervention> edits;
  for (int layer = 0; layer < config.layers; ++layer) {
    edits.push_back({{Part::scores, layer}, {}, Custom{name + " scores", [](const at::Tensor& x) {
                                                         passing_scores() = x;
                                                         return x;
                                                       }}});
    edits.push_back(
        {{Part::pattern, layer}, {}, Custom{name, [kind](const at::Tensor& /*softmax*/) {
                                              const at::Tensor scores =
                                                  std::exchange(passing_scores(), at::Tensor());
                                              return kind == AttentionKind::relu
                                                         ? relu_pattern(scores)
                                                         : scores.sigmoid();
                                            }}});
  }
  return edits;
}

}  // namespace plumb
