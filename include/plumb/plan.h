// An experiment as data: what a forward pass records and what it edits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "plumb/site.h"

namespace plumb {

// Edits are values. Each is applied, out of place, to the sliced entries of its site's tensor. A
// tensor inside an edit must broadcast to the sliced shape; its first axis is the batch (its size
// is B, or 1 for all sequences alike).

struct Zero {};
struct Put {
  at::Tensor value;
};  ///< replace by a value, say from another run
struct Add {
  at::Tensor delta;
};
struct Scale {
  double factor = 1.0;
};
struct ProjectOut {
  at::Tensor direction;
};  ///< [width] remove the component along it (any length)
struct ClampNorm {
  at::Tensor norm;
};                   ///< rescale the last axis to this length; [B or 1, ...]
struct Hide {};      ///< at `scores`: the sliced queries do not see the sliced keys
struct OnlySelf {};  ///< at `scores`: the sliced queries see only themselves
/// The escape hatch: a pure function from the sliced tensor to one of the same shape. It sees whole
/// sequences, but possibly only some of the batch at a time.
struct Custom {
  std::string label;
  std::function<at::Tensor(const at::Tensor&)> fn;
};
using Edit = std::variant<Zero, Put, Add, Scale, ProjectOut, ClampNorm, Hide, OnlySelf, Custom>;

struct Intervention {
  Site site = {};
  Slice where = {};
  Edit edit = Zero{};
};

/// The part of the batch that a reduction is given.
struct Tile {
  std::int64_t first = 0;   ///< index of its first sequence in the batch
  at::Tensor ids = {};      ///< [b, T] int64
  at::Tensor lengths = {};  ///< [b] int64, valid positions of each sequence
};

/// Turns a recorded tensor into something smaller as soon as it exists. Keeps the batch as first
/// axis.
using Reduce = std::function<at::Tensor(const at::Tensor& value, const Tile& tile)>;

/// One thing to keep. What is recorded is the tensor as the rest of the model saw it, after the
/// edits at its site; then the slice is taken, then the reduction applied.
struct Record {
  Record(Site site_) : site(site_) {}  // NOLINT(google-explicit-constructor): {.record = {site}}
  Record(Site site_, Slice where_) : site(site_), where(std::move(where_)) {}
  Record(Site site_, std::string label_, Reduce reduce_, Slice where_ = {})
      : site(site_),
        where(std::move(where_)),
        label(std::move(label_)),
        reduce(std::move(reduce_)) {}

  Site site;
  Slice where = {};
  std::string label = {};  ///< tells records of one site apart; empty for the plain tensor
  Reduce reduce = {};
};

/// Start from a recorded stream instead of the embedding: blocks before `layer` are not run.
struct Restart {
  int layer = 0;
  at::Tensor resid_pre = {};  ///< [B, T, d_model] stream entering block `layer`
};

enum class Logits { all, none };

/// A whole experiment. The default plan is a plain forward pass.
struct Plan {
  std::vector<Record> record = {};
  std::vector<Intervention> interventions = {};  ///< applied in this order at each site
  Logits logits = Logits::all;                   ///< what `Run::logits` holds
  std::optional<Restart> restart = {};
  std::optional<int> until = {};  ///< stop before this block: no later block, no logits
  bool gradients = false;         ///< build the autograd graph (one tile, no threads)
};

}  // namespace plumb
