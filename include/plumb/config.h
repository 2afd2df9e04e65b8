// What kind of decoder a checkpoint holds: the switches that govern the one forward pass.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

enum class Norm { rms, layer };                ///< RMSNorm, or LayerNorm with bias
enum class Positions { rope, learned, none };  ///< rotary, a learned table, or no encoding
enum class Activation { silu, gelu, gelu_tanh, relu };
enum class RopeScaling { none, linear, dynamic, llama3, yarn };

/// Rotary position embedding. Tables are always in the half-split (Hugging Face) layout: channel i
/// pairs with channel i + dims / 2. Checkpoints in the interleaved layout are permuted on reading.
struct Rope {
  double theta = 10000.0;
  int dims = 0;  ///< rotated channels of a head, even
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;            ///< linear, dynamic, llama3, yarn
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double beta_fast = 32.0;        ///< yarn
  double beta_slow = 1.0;         ///< yarn
  double attention_factor = 1.0;  ///< yarn: cos and sin are multiplied by this
  bool truncate = true;           ///< yarn: correction range rounded to integers
  int original_context = 0;       ///< dynamic, llama3, yarn
};

/// Switches of the decoder. Every count is positive once `check` has passed.
struct ModelConfig {
  std::string family = {};  ///< "llama", "qwen2", "gpt2", ...
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;  ///< divides heads; head h reads h / (heads / kv_heads)
  int d_model = 0;
  int d_head = 0;
  int d_mlp = 0;
  int vocab = 0;
  int context = 0;  ///< longest sequence the model was made for
  Norm norm = Norm::rms;
  double norm_eps = 1e-5;
  Positions positions = Positions::rope;
  Rope rope = {};
  std::vector<std::uint8_t> rope_layers =
      {};                         ///< [layers], 0 = no rotation here; empty = all rotate
  std::vector<int> windows = {};  ///< [layers], a query sees its last w keys, 0 = all; empty = all
  Activation activation = Activation::silu;
  bool gated_mlp = true;  ///< down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  ///< RMSNorm on each head of q and k, before rotation
  bool tied = true;      ///< the unembedding is the embedding
};

/// Throws bad_file with one line if the switches contradict each other.
void check(const ModelConfig& config);

}  // namespace plumb
