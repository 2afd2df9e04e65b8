// One block run with a graph, and gradients at its sites.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "experiment/attribute_back.h"
#include "experiment/attribute_tile.h"
#include "plumb/site.h"

namespace plumb {

/// A site of the block that holds a value of its own.
struct HeldSite {
  Part part = Part::resid_pre;
  at::Tensor value = {};  ///< undefined = none is held
};

class NodeBlock {
 public:
  enum class Writes { followed, cut };

  /// Runs the block on the stream that enters it. `read`, if not null and of this block, is what
  /// gradients are of: minus its metric. Where writes are cut, no gradient passes through what
  /// attention and the MLP add to the stream.
  NodeBlock(const TileModel& model, int layer, const at::Tensor& stream,
            const std::vector<Part>& parts, const SiteReadOut* read,
            Writes writes = Writes::followed, const HeldSite& held = {});

  /// Undefined = 0 throughout.
  struct Gradients {
    at::Tensor stream = {};  ///< at the stream that enters
    std::map<Part, at::Tensor> parts = {};
  };
  /// `post` is the gradient at what leaves the block, where that is not read. The graph is let go
  /// of with the `last` call.
  Gradients back(const at::Tensor& post, bool last);

  /// What the rest of the block saw, without a graph.
  at::Tensor value(Part part) const;

 private:
  at::Tensor stream_;
  std::map<Part, at::Tensor> sites_ = {};
  at::Tensor out_ = {};
  bool reads_;
};

}  // namespace plumb
