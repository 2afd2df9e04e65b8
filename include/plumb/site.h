// Names of the tensors of a forward pass: which one (Site) and which part of it (Slice).
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The axes a site's tensor can have. `axes(Part)` is the one table that slicing, checks, documents
/// and archives read.
enum class Axis {
  batch,
  position,
  head,
  kv_head,
  query,
  key,
  d_head,
  d_model,
  d_mlp,
  expert,
  vocab,
  scale
};

/// The tensors of one forward pass, in the order in which the pass meets them. B sequences of T
/// positions, H heads, K key heads, E experts. Blocks whose MLP is a mixture of experts have
/// `router` and `expert_out` (and `shared_out`) in place of mlp_pre, mlp_up and mlp_post.
enum class Part : std::uint8_t {
  embed,      ///< [B, T, d_model] token embeddings
  pos_embed,  ///< [B, T, d_model] learned position embeddings; only where the model has them
  resid_pre,  ///< [B, T, d_model] stream entering the block
  q_in,       ///< [B, T, d_model] stream as the queries read it, before the norm
  k_in,       ///< [B, T, d_model] stream as the keys read it
  v_in,       ///< [B, T, d_model] stream as the values read it
  ln1_scale,  ///< [B, T, 1] 1 / root mean square (or standard deviation) of resid_pre; only where
              ///< attention has a norm on what it reads
  q,          ///< [B, T, H, d_head] after QK-norm and rotation
  k,          ///< [B, T, K, d_head] after QK-norm and rotation
  v,          ///< [B, T, K, d_head]
  scores,     ///< [B, H, query, key] before the softmax: scaled, capped, with any bias of the
              ///< distance; hidden keys hold -inf
  sink_mass,  ///< [B, H, query, 1] probability of the learned sink logit; only where heads have one
  pattern,    ///< [B, H, query, key] attention probabilities; with a sink logit a row sums to
              ///< 1 - sink_mass
  z_gate,     ///< [B, T, H, d_head] sigmoid factor on z; only where attention is gated
  z,          ///< [B, T, H, d_head] pattern times values (times z_gate)
  ln1_post_scale,  ///< [B, T, 1] of the norm on what attention writes; only where there is one
  head_out,    ///< [B, T, H, d_model] each head's write into the stream, without the output bias;
               ///< through the norm on the write, its scale being that of the whole write
  attn_out,    ///< [B, T, d_model] what attention adds to the stream
  resid_mid,   ///< [B, T, d_model] stream with attention added and without the MLP
  mlp_in,      ///< [B, T, d_model] stream as the MLP reads it, before the norm
  ln2_scale,   ///< [B, T, 1]; only where the MLP has a norm on what it reads
  mlp_pre,     ///< [B, T, d_mlp] argument of the activation (the gate's, where the MLP is gated)
  mlp_up,      ///< [B, T, d_mlp] the linear factor of a gated MLP
  mlp_post,    ///< [B, T, d_mlp] neurons: what the down projection reads
  router,      ///< [B, T, E] probabilities of all experts, before any choice
  expert_out,  ///< [B, T, E, d_model] each expert's write, weighted; 0 where it was not chosen
  shared_out,  ///< [B, T, d_model] the shared expert's write, weighted; only where there is one
  ln2_post_scale,  ///< [B, T, 1] of the norm on what the MLP writes; only where there is one
  mlp_out,         ///< [B, T, d_model] what the MLP adds to the stream
  resid_post,      ///< [B, T, d_model] stream leaving the block
  resid_final,     ///< [B, T, d_model] stream as the final norm reads it
  final_scale,     ///< [B, T, 1]
  logits,          ///< [B, T, vocab] capped where the model caps them
};

inline constexpr int part_count = static_cast<int>(Part::logits) + 1;

/// The part's name as printed and parsed: "resid_pre".
std::string_view to_string(Part part) noexcept;

/// Axes of the part's tensor, outermost first.
std::span<const Axis> axes(Part part) noexcept;
std::string_view to_string(Axis axis) noexcept;

/// Whether every block has this part (embed, pos_embed, resid_final, final_scale, logits occur
/// once).
bool per_layer(Part part) noexcept;

/// One tensor of a forward pass. `layer` is zero-based, and 0 for parts that occur once.
struct Site {
  Part part = Part::embed;
  int layer = 0;
  auto operator<=>(const Site&) const = default;
};

/// Which entries of a site's tensor, axis by axis; an empty list means all of that axis.
struct Slice {
  std::vector<std::int64_t> heads = {};      ///< `h`: head or kv_head
  std::vector<std::int64_t> positions = {};  ///< `t`: position, or query of scores and pattern
  std::vector<std::int64_t> keys = {};       ///< `k`: key of scores and pattern
  std::vector<std::int64_t> units = {};      ///< `u`: last axis (neuron, channel, vocabulary entry)
  std::vector<std::int64_t> experts = {};    ///< `e`: expert
  bool operator==(const Slice&) const = default;
  bool whole() const {
    return heads.empty() && positions.empty() && keys.empty() && units.empty() && experts.empty();
  }
};

struct SlicedSite {
  Site site = {};
  Slice slice = {};
  bool operator==(const SlicedSite&) const = default;
};

/// "L3.z", "embed"; with a slice "L3.z[h=1,4;t=0]".
std::string to_string(const Site& site);
std::string to_string(const SlicedSite& site);

/// TransformerLens' name: "blocks.3.attn.hook_z". Empty where it has none.
std::string tl_name(const Site& site);

/// Parses "L3.z[h=1,4;t=0]" or a TransformerLens name. Throws bad_argument, saying what is allowed.
SlicedSite parse_site(std::string_view text);

/// Parses a comma- or space-separated set with layer ranges and wildcards: "L0-2.z[h=*;t=0]",
/// "L*.attn_out resid_final". `layers` resolves "*", as does a part without its layer: "attn_out".
/// Throws bad_argument.
std::vector<SlicedSite> parse_sites(std::string_view text, int layers);

}  // namespace plumb
