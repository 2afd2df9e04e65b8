// What the descendants of Llama share: RMSNorm, rotation, grouped keys, a gated MLP.
#pragma once

#include <string_view>
#include <vector>

#include "checkpoint/family.h"

namespace plumb {

/// What a family assumes where config.json says nothing, and how it differs in form.
struct LlamaDefaults {
  int kv_heads = 0;  ///< 0 = as many as heads
  int d_head = 0;    ///< 0 = d_model / heads
  int context = 2048;
  double theta = 10000;
  bool tied = false;
  const char* activation_field = "hidden_act";
  const char* activation = "silu";
  bool partial_rope = false;                 ///< only some channels may rotate
  bool rope_by_layer = false;                ///< the family reads the rotation itself
  std::vector<std::string_view> reads = {};  ///< fields of no other Llama
};

/// Everything but the norms' places, biases, QK-norm, windows and no-rope layers, which each family
/// sets itself.
ModelConfig read_llama_like(const Fields& fields, const LlamaDefaults& defaults);

/// Names such as "model.layers.0.self_attn.q_proj.weight".
Source llama_like_source(const ModelConfig& config, Weight weight, int layer);

bool llama_like_ignores(std::string_view tensor);

/// The fields that `read_llama_like` reads, with `architecture` as transformers calls the class.
Json write_llama_like(const ModelConfig& config, std::string_view architecture);

/// `layer_types` where given, else `sliding[layer]`; only when `use_sliding_window` is true.
/// The windows, empty when no layer has one.
std::vector<int> read_windows(const Fields& fields, const std::vector<bool>& sliding);

/// The same of a family without `use_sliding_window`; `fallback` is its width, 0 = none.
std::vector<int> read_layer_windows(const Fields& fields, const std::vector<bool>& sliding,
                                    int fallback);

/// Adds `use_sliding_window`, `sliding_window` and `layer_types`. Windows of different widths
/// cannot be said; the first is written.
void write_windows(const ModelConfig& config, Json& json);

/// The same without `use_sliding_window`, layer types always said.
void write_layer_windows(const ModelConfig& config, Json& json);

}  // namespace plumb
