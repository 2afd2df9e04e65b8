#include "plumb/config.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void bad(const std::string& message) {
  throw Error(ErrorKind::bad_file, "model config: " + message);
}

void need(bool holds, const std::string& message) {
  if (!holds) bad(message);
}

bool positive(double value) { return std::isfinite(value) && value > 0; }

bool zero_or_positive(double value) { return std::isfinite(value) && value >= 0; }

void check_factors(const char* name, const std::vector<double>& factors, int dims) {
  need(factors.size() == static_cast<std::size_t>(dims / 2),
       fmt::format("rope.{} has {} entries for {} pairs of channels", name, factors.size(),
                   dims / 2));
  for (const double factor : factors) {
    need(positive(factor), fmt::format("rope.{} holds {}; they should be positive", name, factor));
  }
}

void check_rope(const Rope& rope, int d_head) {
  need(rope.dims > 0 && rope.dims % 2 == 0 && rope.dims <= d_head,
       fmt::format("rope.dims is {}; it should be even and at most d_head, {}", rope.dims, d_head));
  need(positive(rope.theta), fmt::format("rope.theta is {}; it should be positive", rope.theta));
  need(zero_or_positive(rope.query_growth),
       fmt::format("rope.query_growth is {}; 0 means none", rope.query_growth));
  need(rope.query_span > 0,
       fmt::format("rope.query_span is {}; it should be positive", rope.query_span));
  if (rope.scaling == RopeScaling::none) return;
  need(positive(rope.factor), fmt::format("rope.factor is {}; it should be positive", rope.factor));
  if (rope.scaling == RopeScaling::linear) return;
  need(rope.original_context > 0,
       fmt::format("rope.original_context is {}; it should be positive", rope.original_context));
  if (rope.scaling == RopeScaling::dynamic) {
    need(rope.dims > 2, "dynamic rope scaling needs more than 2 rotated channels");
  }
  if (rope.scaling == RopeScaling::llama3) {
    need(positive(rope.low_freq_factor) && std::isfinite(rope.high_freq_factor) &&
             rope.high_freq_factor > rope.low_freq_factor,
         fmt::format(
             "rope.low_freq_factor {} should be positive and less than rope.high_freq_factor {}",
             rope.low_freq_factor, rope.high_freq_factor));
  }
  if (rope.scaling == RopeScaling::yarn) {
    need(rope.theta > 1, fmt::format("rope.theta is {}; yarn needs more than 1", rope.theta));
    need(positive(rope.beta_slow) && std::isfinite(rope.beta_fast) &&
             rope.beta_fast > rope.beta_slow,
         fmt::format("rope.beta_slow {} should be positive and less than rope.beta_fast {}",
                     rope.beta_slow, rope.beta_fast));
    need(positive(rope.attention_factor),
         fmt::format("rope.attention_factor is {}; it should be positive", rope.attention_factor));
  }
  if (rope.scaling == RopeScaling::longrope) {
    need(positive(rope.attention_factor),
         fmt::format("rope.attention_factor is {}; it should be positive", rope.attention_factor));
    check_factors("short_factors", rope.short_factors, rope.dims);
    check_factors("long_factors", rope.long_factors, rope.dims);
  }
}

void check_block(const ModelConfig& config) {
  need(config.norm_place == NormPlace::before || config.norm == Norm::rms,
       "norm_place is not before, which only RMSNorm is made for");
  need(!config.parallel || config.norm_place == NormPlace::before,
       "parallel is set, but norm_place is not before");
  need(!config.shared_norm || config.parallel, "shared_norm is set, but parallel is not");
  const std::pair<const char*, double> limits[] = {{"attention_scale", config.attention_scale},
                                                   {"score_cap", config.score_cap},
                                                   {"logit_cap", config.logit_cap},
                                                   {"qkv_clip", config.qkv_clip}};
  for (const auto& [name, value] : limits) {
    need(zero_or_positive(value), fmt::format("{} is {}; 0 means none", name, value));
  }
  need(positive(config.embed_scale),
       fmt::format("embed_scale is {}; it should be positive", config.embed_scale));
  need(config.qk_norm != QkNorm::rotated || config.positions == Positions::rope,
       "qk_norm is rotated, but positions is not rope");
}

void check_experts(const ModelConfig& config) {
  const Experts& experts = config.experts;
  if (experts.count == 0) return;
  need(experts.count > 0,
       fmt::format("experts.count is {}; it should not be negative", experts.count));
  need(experts.per_token > 0 && experts.per_token <= experts.count,
       fmt::format("experts.per_token is {}; it should be 1-{}, as there are {} experts",
                   experts.per_token, experts.count, experts.count));
  need(experts.width > 0, fmt::format("experts.width is {}; it should be positive", experts.width));
  need(experts.shared_width >= 0,
       fmt::format("experts.shared_width is {}; 0 means no shared expert", experts.shared_width));
  need(std::isfinite(experts.limit) && experts.limit >= 0,
       fmt::format("experts.limit is {}; 0 means none", experts.limit));
  need(std::isfinite(experts.alpha), fmt::format("experts.alpha is {}", experts.alpha));
  need(!experts.weigh_input || !experts.normalise,
       "experts.weigh_input and experts.normalise are both set; plumb does one of them");
  need(config.gated_mlp, "experts are given, but the MLP is not gated");
  need(config.norm_place == NormPlace::before, "experts are given, but a norm follows the MLP");
  need(experts.layers.empty() || experts.layers.size() == static_cast<std::size_t>(config.layers),
       fmt::format("experts.layers has {} entries for {} layers", experts.layers.size(),
                   config.layers));
  for (const std::uint8_t sparse : experts.layers) {
    need(sparse <= 1, fmt::format("experts.layers holds {}; only 0 and 1 are allowed", sparse));
  }
}

}  // namespace

void check(const ModelConfig& config) {
  const std::pair<const char*, int> counts[] = {
      {"layers", config.layers},   {"heads", config.heads},     {"kv_heads", config.kv_heads},
      {"d_model", config.d_model}, {"d_head", config.d_head},   {"d_mlp", config.d_mlp},
      {"vocab", config.vocab},     {"context", config.context},
  };
  for (const auto& [name, value] : counts) {
    need(value > 0, fmt::format("{} is {}; it should be positive", name, value));
  }
  need(config.heads % config.kv_heads == 0,
       fmt::format("heads {} is not a multiple of kv_heads {}", config.heads, config.kv_heads));
  need(config.heads <= std::numeric_limits<int>::max() / config.d_head,
       fmt::format("heads {} times d_head {} is too large", config.heads, config.d_head));
  need(positive(config.norm_eps),
       fmt::format("norm_eps is {}; it should be positive", config.norm_eps));
  check_block(config);
  const auto layers = static_cast<std::size_t>(config.layers);
  if (config.positions == Positions::rope) {
    check_rope(config.rope, config.d_head);
    if (config.window_rope.dims != 0) check_rope(config.window_rope, config.d_head);
  } else {
    need(config.rope_layers.empty(), "rope_layers is given, but positions is not rope");
  }
  if (config.positions == Positions::alibi) {
    need(positive(config.alibi_bias),
         fmt::format("alibi_bias is {}; it should be positive", config.alibi_bias));
    need(positive(config.alibi_scale),
         fmt::format("alibi_scale is {}; it should be positive", config.alibi_scale));
  }
  need(config.rope_layers.empty() || config.rope_layers.size() == layers,
       fmt::format("rope_layers has {} entries for {} layers", config.rope_layers.size(), layers));
  for (const std::uint8_t rotates : config.rope_layers) {
    need(rotates <= 1, fmt::format("rope_layers holds {}; only 0 and 1 are allowed", rotates));
  }
  need(config.windows.empty() || config.windows.size() == layers,
       fmt::format("windows has {} entries for {} layers", config.windows.size(), layers));
  for (const int window : config.windows) {
    need(window >= 0, fmt::format("windows holds {}; 0 means no window", window));
  }
  check_experts(config);
}

}  // namespace plumb
