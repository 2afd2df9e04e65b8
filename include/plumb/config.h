// What kind of decoder a checkpoint holds: the switches that govern the one forward pass.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

enum class Norm { rms, layer };  ///< RMSNorm, or LayerNorm
/// Where attention and MLP have their norm: on what they read from the stream, on what they write
/// to it, or on both.
enum class NormPlace { before, after, both };
/// Rotary, a learned table, a bias on the scores that grows with the distance, or no encoding.
enum class Positions { rope, learned, alibi, none };
enum class Activation { silu, gelu, gelu_tanh, relu };
/// RMSNorm on each head of q and k, or on all at once, before rotation; or without gains on each
/// head after it, in the layers that rotate.
enum class QkNorm { none, head, whole, rotated };
enum class RopeScaling { none, linear, dynamic, llama3, yarn, longrope };

/// Rotary position embedding. Tables are always in the half-split (Hugging Face) layout: channel i
/// pairs with channel i + dims / 2. Checkpoints in the interleaved layout are permuted on reading.
struct Rope {
  double theta = 10000.0;
  int dims = 0;  ///< rotated channels of a head, even
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;            ///< linear, dynamic, llama3, yarn; longrope: for the record
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double beta_fast = 32.0;        ///< yarn
  double beta_slow = 1.0;         ///< yarn
  double attention_factor = 1.0;  ///< yarn, longrope: cos and sin are multiplied by this
  bool truncate = true;           ///< yarn: correction range rounded to integers
  int original_context = 0;       ///< dynamic, llama3, yarn, longrope
  /// longrope: divisors of the frequencies, [dims / 2], of sequences up to the original context
  /// and of longer ones.
  std::vector<double> short_factors = {};
  std::vector<double> long_factors = {};
  /// Of layers that do not rotate: the query at position t is multiplied by
  /// 1 + query_growth log(1 + floor((t + 1) / query_span)); 0 = it is not.
  double query_growth = 0.0;
  int query_span = 8192;
};

/// Mixtures of experts: a router gives each token a probability for every expert, the softmax over
/// all of them or each logit's sigmoid; the token visits the `per_token` most probable, and the
/// MLP's write is the sum of theirs, each times its probability. An expert is a gated MLP.
struct Experts {
  int count = 0;           ///< in each sparse layer; 0 = every MLP is dense
  int per_token = 0;       ///< how many a token visits
  int width = 0;           ///< neurons of one expert
  bool normalise = false;  ///< divide the chosen probabilities by their sum
  bool sigmoid = false;    ///< probabilities are sigmoids of the router's logits
  bool weigh_input =
      false;             ///< what an expert reads is multiplied by its probability, its write not
  int shared_width = 0;  ///< neurons of the expert that every token visits; 0 = none
  bool shared_gated = true;  ///< the shared expert's write is multiplied by a sigmoid
  bool router_bias = false;
  bool biases = false;  ///< of the experts
  /// > 0: an expert's neurons are g sigmoid(alpha g) (u + 1), the gate g being at most `limit` and
  /// the linear factor u within plus and minus `limit`; 0: activation(g) u.
  double limit = 0.0;
  double alpha = 1.702;
  std::vector<std::uint8_t> layers = {};  ///< [layers], 0 = a dense MLP; empty = all sparse
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
  NormPlace norm_place = NormPlace::before;
  bool norm_gain = true;  ///< norms multiply by learned gains
  bool norm_bias = true;  ///< LayerNorm adds learned biases; RMSNorm never does
  double norm_eps = 1e-5;
  bool parallel = false;     ///< the MLP reads the stream that attention reads, not its result
  bool shared_norm = false;  ///< the MLP reads through `ln1`; parallel blocks only
  Positions positions = Positions::rope;
  Rope rope = {};
  Rope window_rope = {};     ///< rotation of the layers that have a window; dims 0 = `rope` as well
  double alibi_bias = 8.0;   ///< alibi: the flattest head's slope is 2 to the power of minus this
  double alibi_scale = 1.0;  ///< alibi: all slopes are multiplied by this
  std::vector<std::uint8_t> rope_layers =
      {};                         ///< [layers], 0 = no rotation here; empty = all rotate
  std::vector<int> windows = {};  ///< [layers], a query sees its last w keys, 0 = all; empty = all
  bool chunked = false;  ///< it sees those keys before it that lie in its own chunk of w instead
  double embed_scale = 1.0;      ///< token embeddings are multiplied by this
  double attention_scale = 0.0;  ///< factor on the products of q and k; 0 = 1 / sqrt(d_head)
  double score_cap = 0.0;        ///< scores become cap * tanh(score / cap); 0 = no cap
  double logit_cap = 0.0;        ///< likewise for the logits
  double qkv_clip = 0.0;         ///< q, k, v are clamped to +- this after any norm; 0 = no clamp
  bool sink_logits = false;      ///< each head has a learned score that no key belongs to
  bool gated_attention = false;  ///< z is multiplied by a sigmoid of the normalised stream
  Activation activation = Activation::silu;
  bool gated_mlp = true;  ///< down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  QkNorm qk_norm = QkNorm::none;
  bool tied = true;  ///< the unembedding is the embedding
  Experts experts = {};
};

/// Whether the layer's MLP is a mixture of experts. `layer` must be a layer of the model.
bool is_sparse(const ModelConfig& config, int layer);

/// Throws bad_file with one line if the switches contradict each other.
void check(const ModelConfig& config);

}  // namespace plumb
