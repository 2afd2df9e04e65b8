// A checkpoint on disk: mapped, nothing read yet.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "plumb/config.h"

namespace plumb {

/// The weights of a decoder under their canonical names. Per layer: `ln1, q, k, v, out, q_norm,
/// k_norm, sinks, z_gate, ln1_post, ln2, gate, up, down, ln2_post`, with `router, expert_gate,
/// expert_up, expert_down, shared_router, shared_gate, shared_up, shared_down` in place of gate, up
/// and down where the MLP is a mixture; else `embed, pos_embed, final_norm, unembed`. Matrices are
/// [outputs, inputs] whatever the file's layout; biases have a name of their own. Gains of norms
/// are what the norm multiplies by, also where the file holds them less 1.
enum class Weight {
  embed,      ///< [vocab, d_model]
  pos_embed,  ///< [context, d_model]
  ln1,
  ln1_bias,  ///< [d_model]
  q,
  q_bias,  ///< [heads * d_head, d_model], [heads * d_head]
  k,
  k_bias,  ///< [kv_heads * d_head, d_model], ...
  v,
  v_bias,
  q_norm,
  k_norm,  ///< [d_head] each; over the whole projection [heads * d_head] and [kv_heads * d_head]
  sinks,   ///< [heads] the score that no key belongs to
  z_gate,  ///< [heads * d_head, d_model] argument of the sigmoid that multiplies z
  out,
  out_bias,  ///< [d_model, heads * d_head], [d_model]
  ln1_post,  ///< [d_model] gain of the norm on what attention writes
  ln2,
  ln2_bias,
  gate,
  gate_bias,  ///< [d_mlp, d_model], [d_mlp]
  up,
  up_bias,
  down,
  down_bias,  ///< [d_model, d_mlp], [d_model]
  router,
  router_bias,  ///< [experts, d_model], [experts]
  expert_gate,
  expert_gate_bias,  ///< [experts, width, d_model], [experts, width]
  expert_up,
  expert_up_bias,
  expert_down,
  expert_down_bias,  ///< [experts, d_model, width], [experts, d_model]
  shared_router,     ///< [1, d_model]
  shared_gate,
  shared_up,
  shared_down,  ///< [shared_width, d_model], [d_model, shared_width]
  ln2_post,     ///< [d_model] gain of the norm on what the MLP writes
  final_norm,
  final_norm_bias,
  unembed,  ///< [vocab, d_model]
};

/// "embed", "q_bias", ...
const char* to_string(Weight weight) noexcept;

/// Every weight, in the order of the enumeration.
const std::vector<Weight>& all_weights();

/// Whether there is one of it in every layer.
bool is_per_layer(Weight weight) noexcept;

/// Whether its first axis is that of the experts.
bool is_per_expert(Weight weight) noexcept;

/// "embed", "L3.q_bias": the weight's key wherever weights are stored by name.
std::string weight_name(Weight weight, int layer = 0);

/// The canonical shape. Empty when a decoder of this config has no such weight: a bias, a norm, a
/// gate, a position table, the unembedding of a tied model, experts of a dense layer, a layer out
/// of range.
std::vector<std::int64_t> weight_shape(const ModelConfig& config, Weight weight, int layer = 0);

/// What the file says about one of its tensors, under the file's own name.
struct TensorInfo {
  std::string name = {};
  std::string dtype = {};                ///< "F32", "BF16", "Q4_1", ...
  std::vector<std::int64_t> shape = {};  ///< row-major, outermost first (also for GGUF)
  std::uint64_t bytes = 0;               ///< stored size
};

/// An opened checkpoint: a Hugging Face directory (`config.json`, `*.safetensors`, optional index)
/// a `.gguf` file, or the first part of a split one, the others being beside it. Opening parses and
/// checks every header strictly and maps the files; weights are read, and dequantised, when asked
/// for, and no more of the file stays in memory then. Immutable and safe to share between threads.
class Checkpoint {
 public:
  /// Throws bad_file (missing, damaged, contradictory) or unsupported (model type, tensor type),
  /// naming the file and the tensor, field or byte.
  static Checkpoint open(const std::filesystem::path& path);

  const std::string& name() const;  ///< last component of the path, without `.gguf` and the part
  const std::filesystem::path& path() const;
  const ModelConfig& config() const;
  const std::string& format() const;               ///< "safetensors" or "gguf"
  const std::vector<TensorInfo>& tensors() const;  ///< every tensor, by name
  std::int64_t parameters() const;  ///< elements the decoder uses, a tied matrix counted once

  /// Whether the decoder has this weight: `weight_shape` is not empty. Opening made sure that the
  /// file holds every such weight in its right shape. False for the unembedding of a tied model.
  bool has(Weight weight, int layer = 0) const;

  /// The weight as a fresh contiguous CPU tensor in its canonical shape, as float32, float64,
  /// bfloat16 or float16. F16, BF16 and F32 are widened exactly; quantised types are expanded in
  /// float32, as their format defines, whatever `dtype` is; F64 rounds to float32, and the narrow
  /// types are rounded from float32.
  /// The unembedding of a tied model is its embedding.
  /// Throws bad_argument when `has` is false, bad_file when the weight holds NaN or infinity,
  /// unsupported when its stored type cannot be read or a number lies beyond float16.
  at::Tensor read(Weight weight, int layer = 0, at::ScalarType dtype = at::kFloat) const;

  /// One expert's part of a weight that `is_per_expert`, in its canonical shape without the axis of
  /// the experts: reads that part only. Throws as `read` does, and bad_argument when the weight has
  /// no such axis or expert.
  at::Tensor read_expert(Weight weight, int layer, int expert,
                         at::ScalarType dtype = at::kFloat) const;

  /// Rows of a two-dimensional weight, [rows.size(), columns]: reads those rows only.
  /// Throws bad_argument on a row out of range or a weight of one dimension.
  at::Tensor read_rows(Weight weight, const std::vector<std::int64_t>& rows,
                       at::ScalarType dtype = at::kFloat) const;

  /// Bytes of stored tensors read so far, by this checkpoint and its copies: of rows and parts,
  /// only theirs. Hashing does not count.
  std::uint64_t bytes_read() const;

  /// SHA-256, hex; computed on first use, then kept. Of a .gguf: of the file. Of a split one: of
  /// what `sha256sum PARTS...` prints, and of a directory of what `sha256sum config.json
  /// WEIGHT_FILES...` prints, files in the order of their names.
  const std::string& sha256() const;

  /// The same of what `sha256sum` would print had every file ended where its first tensor begins:
  /// names, shapes and settings without the weights, which may be too many to hash.
  std::string headers_sha256() const;

  struct Impl;

 private:
  explicit Checkpoint(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace plumb
