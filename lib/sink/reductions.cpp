#include "sink/reductions.h"

#include <ATen/ATen.h>

namespace plumb {

namespace {

// The rule as `ReceivedAttention` states it.
ReceivedAttention received_from(Queries queries) {
  ReceivedAttention rule{.own = queries == Queries::all};
  rule.queries = [queries](const at::Tensor& lengths, std::int64_t T) {
    const at::Tensor query = at::arange(T, lengths.options()).unsqueeze(0);
    const at::Tensor length = lengths.unsqueeze(1);
    const at::Tensor valid = query < length;
    switch (queries) {
      case Queries::second_half: return valid.logical_and(query * 2 >= length);
      case Queries::last: return query.eq(length - 1);
      case Queries::all:
      case Queries::no_self: break;
    }
    return valid;
  };
  return rule;
}

// [b, 1, T]: 1 / number of the queries that count for key 0, where this one does; else 0.
at::Tensor shares_of_key_zero(Queries queries, const Tile& tile, std::int64_t T,
                              const at::TensorOptions& options) {
  const ReceivedAttention rule = received_from(queries);
  at::Tensor counted = rule.queries(tile.lengths, T).to(options);
  if (!rule.own) counted.select(1, 0).fill_(0.0);
  return (counted / counted.sum(1, true).clamp_min(1.0)).unsqueeze(1);
}

}  // namespace

Reduce received_by_head(Queries queries) { return received_from(queries); }

Reduce received(Queries queries) {
  return [rule = received_from(queries)](const at::Tensor& pattern, const Tile& tile) {
    const at::Tensor weights = rule.weights(tile.lengths, pattern.size(3), pattern.options());
    return (pattern.mean(1) * weights).sum(1);
  };
}

Reduce head_statistics(Queries queries) {
  return AttentionRows{[queries](const at::Tensor& rows, const Tile& tile) {
    const at::Tensor share = shares_of_key_zero(queries, tile, rows.size(3), rows.options());
    const auto row = [&](RowStatistic which) {
      return rows.select(2, static_cast<std::int64_t>(which));
    };
    const at::Tensor key = row(RowStatistic::top_key).to(at::kLong);
    const at::Tensor votes =
        at::zeros_like(row(RowStatistic::top_key)).scatter_add_(2, key, share.expand_as(key));
    const auto [most, top] = votes.max(2);
    return at::stack({(row(RowStatistic::entropy) * share).sum(2), top.to(rows.options()), most,
                      votes.select(2, 0)},
                     2);
  }};
}

Reduce mean_log_sum_exp(Queries queries) {
  return LogSumExp{[queries](const at::Tensor& each, const Tile& tile) {
    return (each * shares_of_key_zero(queries, tile, each.size(2), each.options())).sum(2);
  }};
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
