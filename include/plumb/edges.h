// Which edges a model's circuit can have: every component's write can reach every later input.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/config.h"

namespace plumb {

/// What writes to the stream. Senders in order: the input (embeddings), then of each layer its
/// heads and its MLP.
struct EdgeSender {
  enum class Kind { input, head, mlp } kind = Kind::input;
  int layer = -1;  ///< -1 for the input
  int head = -1;   ///< -1 where it is no head
  bool operator==(const EdgeSender&) const = default;
};

/// What reads the stream. Receivers in order: of each layer its query heads, its key heads, its
/// value heads (both by key head) and its MLP; then the logits.
struct EdgeReceiver {
  enum class Kind { q, k, v, mlp, logits } kind = Kind::logits;
  int layer = 0;  ///< the number of layers for the logits
  int head = -1;  ///< -1 where it is no head; a key head for k and v
  bool operator==(const EdgeReceiver&) const = default;
};

/// All edges of a decoder, numbered: those of the first receiver by sender, then those of the next.
/// A receiver sees the first so many senders, all that wrote before it reads: a layer's heads reach
/// its own MLP, unless the two are parallel. With as many key heads as heads this is EAP-IG's graph
/// (32,491 edges for GPT-2 small). A value, cheap to copy for small models; the edges themselves
/// are never stored.
class EdgeSpace {
 public:
  EdgeSpace() = default;
  /// Throws bad_argument if a number is not positive or the heads are no multiple of the key heads.
  EdgeSpace(int layers, int heads, int kv_heads, bool parallel = false);
  explicit EdgeSpace(const ModelConfig& config);

  int layers() const { return layers_; }
  int heads() const { return heads_; }
  int kv_heads() const { return kv_heads_; }
  bool parallel() const { return parallel_; }

  std::int64_t senders() const;    ///< 1 + layers (heads + 1)
  std::int64_t receivers() const;  ///< layers (heads + 2 kv_heads + 1) + 1
  std::int64_t edges() const { return first_.empty() ? 0 : first_.back(); }

  EdgeSender sender(std::int64_t index) const;
  EdgeReceiver receiver(std::int64_t index) const;
  std::int64_t index_of(const EdgeSender& sender) const;
  std::int64_t index_of(const EdgeReceiver& receiver) const;

  /// How many senders the receiver sees; they are 0 to that number less one.
  std::int64_t seen_by(std::int64_t receiver) const;
  /// The edge from sender 0; that from sender s, if seen, is `first_edge(receiver) + s`.
  std::int64_t first_edge(std::int64_t receiver) const;
  struct Ends {
    std::int64_t sender = 0;
    std::int64_t receiver = 0;
  };
  Ends ends(std::int64_t edge) const;

  /// "input", "a0.h1", "m2".
  std::string sender_name(std::int64_t sender) const;
  /// "a3.h4<q>", "m3", "logits".
  std::string receiver_name(std::int64_t receiver) const;
  /// "a0.h1->a3.h4<q>".
  std::string edge_name(std::int64_t edge) const;
  /// The edge of that name; nothing if the model has none.
  std::optional<std::int64_t> find_edge(std::string_view name) const;
  std::optional<std::int64_t> find_sender(std::string_view name) const;
  std::optional<std::int64_t> find_receiver(std::string_view name) const;

  bool operator==(const EdgeSpace&) const = default;

 private:
  int layers_ = 0;
  int heads_ = 0;
  int kv_heads_ = 0;
  bool parallel_ = false;
  std::vector<std::int64_t> first_ = {};  // by receiver, and the number of edges at the end
};

/// A score for every edge.
struct EdgeScores {
  EdgeSpace space = {};
  at::Tensor values = {};       ///< float64 [edges]; by position: [T, edges]
  std::string method = {};      ///< "eap", "eap-ig", "direct", "exact", ...
  std::string convention = {};  ///< one sentence: metric, sign, gradient point, steps, divisor
};

}  // namespace plumb
