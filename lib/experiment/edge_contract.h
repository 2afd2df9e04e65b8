// Products of what senders write and of gradients at what receivers read, over all edges.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "experiment/attribute_back.h"
#include "plumb/edges.h"

namespace plumb {

/// What the senders of a tile write in one run less what they write in another. N = b T positions.
struct SenderChange {
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  at::Tensor input = {};             ///< [N, d_model]
  std::vector<at::Tensor> z = {};    ///< of each layer [N, H, d_head], times the scale of the norm
                                     ///< on the write, where there is one
  std::vector<at::Tensor> mlp = {};  ///< of each layer [N, d_model]
};

/// What scores are kept apart by: pairs, so that those of one pair do not depend on which others
/// share its tile, or positions.
enum class KeepAxis { pair, position };

/// Numbers in a chunk's gradients, and in its writes: these should stay in a cache.
inline constexpr std::int64_t numbers_at_once = 1 << 20;
/// Layers whose receivers are multiplied together: every block of them holds its gradients in
/// d_head, and multiplies the senders out anew.
std::int64_t layers_at_once(int layers);

/// Adds up, over the gradients of all receivers, the scores of their edges. Heads are multiplied
/// out to d_model for a few positions at a time, a few layers of receivers together.
class EdgeContraction {
 public:
  EdgeContraction(const Model& model, const EdgeSpace& space, const SenderChange& change,
                  KeepAxis keep);

  /// What scores are multiplied by from now on.
  void weigh(double weight);
  void add(ReceiverGradient gradient);
  /// The read-out, `seen` senders of which it sees.
  void add(const StreamReader& reader);
  /// float64 [b or T, edges], of every pair of the tile or position.
  at::Tensor take();

 private:
  struct Block;
  /// Rows of one pair, cut alike for each.
  struct Piece {
    std::int64_t first = 0;  ///< of the chunk's rows
    std::int64_t count = 0;
    std::int64_t place = 0;  ///< of its first row, along the kept axis
  };
  /// Rows that are multiplied out together.
  struct Chunk {
    std::int64_t first = 0;
    std::int64_t count = 0;
    std::vector<Piece> pieces = {};
  };
  std::vector<Chunk> chunks(std::int64_t rows_at_once) const;
  std::int64_t kept() const;
  void flush();
  void product(const Chunk& chunk, const at::Tensor& gradients, const at::Tensor& writes,
               std::int64_t first_sender, at::Tensor& sums) const;
  void scatter(const Block& block, const at::Tensor& sums);

  const Model& model_;
  const EdgeSpace& space_;
  const SenderChange& change_;
  KeepAxis keep_;
  double weight_ = 1.0;
  std::size_t layers_at_once_;
  std::vector<ReceiverGradient> waiting_ = {};
  at::Tensor scores_;
};

}  // namespace plumb
