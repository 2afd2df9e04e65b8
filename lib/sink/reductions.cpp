#include "sink/reductions.h"

#include <ATen/ATen.h>

namespace plumb {

namespace {

// [b, query, key]: 1 / number of chosen queries where this query counts for this key, else 0.
at::Tensor query_weights(Queries queries, const at::Tensor& lengths, std::int64_t T,
                         const at::TensorOptions& options) {
  const at::Tensor index = at::arange(T, lengths.options());
  const at::Tensor query = index.view({1, T, 1});
  const at::Tensor key = index.view({1, 1, T});
  const at::Tensor length = lengths.view({-1, 1, 1});
  at::Tensor chosen = (query < length).logical_and(key < length);
  switch (queries) {
    case Queries::all: chosen = chosen.logical_and(query >= key); break;
    case Queries::no_self: chosen = chosen.logical_and(query > key); break;
    case Queries::second_half:
      chosen = chosen.logical_and(query > key).logical_and(query * 2 >= length);
      break;
    case Queries::last:
      chosen = chosen.logical_and(query > key).logical_and(query == length - 1);
      break;
  }
  const at::Tensor weights = chosen.to(options);
  return weights / weights.sum(1, true).clamp_min(1.0);
}

at::Tensor weighted(const at::Tensor& pattern, Queries queries, const Tile& tile) {
  const at::Tensor weights =
      query_weights(queries, tile.lengths, pattern.size(3), pattern.options());
  return (pattern * weights.unsqueeze(1)).sum(2);
}

}  // namespace

Reduce received_by_head(Queries queries) {
  return [queries](const at::Tensor& pattern, const Tile& tile) {
    return weighted(pattern, queries, tile);
  };
}

Reduce received(Queries queries) {
  return [queries](const at::Tensor& pattern, const Tile& tile) {
    const at::Tensor weights =
        query_weights(queries, tile.lengths, pattern.size(3), pattern.options());
    return (pattern.mean(1) * weights).sum(1);
  };
}

Reduce mean_over_queries() {
  return [](const at::Tensor& values, const Tile& tile) {
    const at::Tensor index = at::arange(values.size(2), tile.lengths.options()).view({1, 1, -1});
    const at::Tensor counted = (index < tile.lengths.view({-1, 1, 1})).to(values.options());
    return (values.squeeze(-1) * counted).sum(2) / counted.sum(2);
  };
}

Reduce stream_norm() {
  return [](const at::Tensor& stream, const Tile&) {
    return at::linalg_vector_norm(stream, 2, c10::IntArrayRef{-1});
  };
}

Reduce mean_of_others() {
  return [](const at::Tensor& stream, const Tile& tile) {
    const at::Tensor index = at::arange(stream.size(1), tile.lengths.options()).unsqueeze(0);
    const at::Tensor counted = index.gt(0)
                                   .logical_and(index < tile.lengths.unsqueeze(1))
                                   .to(stream.options())
                                   .unsqueeze(2);
    return (stream * counted).sum(1, true) / counted.sum(1, true).clamp_min(1.0);
  };
}

Reduce gather_position(at::Tensor positions) {
  return [positions = std::move(positions)](const at::Tensor& stream, const Tile& tile) {
    const at::Tensor own = positions.narrow(0, tile.first, stream.size(0)).to(stream.device());
    return stream.gather(1, own.view({-1, 1, 1}).expand({-1, 1, stream.size(2)}));
  };
}

}  // namespace plumb
