// What a head's pattern becomes when its queries or keys alone are another run's (QK fix,
// arXiv:2403.00745, section 3.1.1).
#pragma once

#include <ATen/core/Tensor.h>

#include "experiment/attribute_tile.h"
#include "model/attention.h"
#include "model/pass.h"
#include "model/tap.h"

namespace plumb {

// b sequences, T positions, H heads, K key heads. q [b, T, H, d_head], k [b, T, K, d_head].

/// Every key's own change: what the pattern does when that key alone is another one.
struct KeyByKey {
  at::Tensor pattern = {};  ///< [b, H, query, key]
  at::Tensor shift = {};    ///< what the changed key itself gains
  at::Tensor top = {};      ///< [b, H, query, 1] int64: the key that draws most
  at::Tensor others = {};   ///< [b, H, query, key]: the pattern without that key
  /// Of gradients at the pattern, to first order in it, the change [b, T, K].
  at::Tensor along(const at::Tensor& gradient, std::int64_t kv_heads) const;
};

class PatternOf {
 public:
  explicit PatternOf(const TileModel& model);
  PatternOf(const PatternOf&) = delete;
  PatternOf& operator=(const PatternOf&) = delete;

  /// [b, H, query, key]
  at::Tensor operator()(int layer, const at::Tensor& q, const at::Tensor& k);
  KeyByKey key_by_key(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& other);

 private:
  at::Tensor products(const at::Tensor& q, const at::Tensor& k) const;

  Plan plan_ = {};
  DecoderInputs inputs_;
  Tile tile_;
  Tap tap_;
  Pass pass_;
  Attention attention_;
};

}  // namespace plumb
