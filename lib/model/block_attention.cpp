#include "model/block_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/parallel.h"
#include "model/row_loops.h"
#include "plumb/streamed.h"

namespace plumb {
namespace {

// Stands for minus infinity: its exp is 0 beside any score, and products with 0 are 0.
constexpr double hidden = -1e30;

struct Shape {
  std::int64_t B = 0, T = 0, H = 0, K = 0, d = 0;
  std::int64_t G = 0;        // query heads of a key head
  std::int64_t queries = 0;  // of a block
  std::int64_t blocks = 0;   // of queries
  std::int64_t strips = 0;   // of each key head: strip s takes blocks s, s + strips, ...
};

Shape shape_of_blocks(std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t K,
                      std::int64_t d, const BlockSizes& sizes) {
  Shape shape{.B = B, .T = T, .H = H, .K = K, .d = d, .G = H / K};
  constexpr std::int64_t fewest_queries = 16;
  shape.queries = std::max(std::min(fewest_queries, sizes.rows), sizes.rows / shape.G);
  shape.blocks = (T + shape.queries - 1) / shape.queries;
  shape.strips = std::clamp<std::int64_t>(sizes.units / (B * K), 1, shape.blocks);
  return shape;
}

// A row is one query of one head. What is known of it after the keys that were visited.
struct Row {
  double top = hidden;    // largest score
  double total = 0.0;     // sum of e = exp(score - top)
  double moment = 0.0;    // sum of e (score - top)
  double first = hidden;  // score of key 0
  std::int64_t key = 0;   // where the largest is
  double scale = 0.0;     // in the end: what makes attention of e
};

template <typename Real>
class Engine {
 public:
  Engine(const BlockAttention& in, const BlockWants& wants, const BlockSizes& sizes)
      : in_(in),
        wants_(wants),
        keys_per_tile_(sizes.keys),
        shape_(shape_of_blocks(in.q.size(0), in.q.size(1), in.q.size(2), in.k.size(2), in.q.size(3),
                               sizes)) {
    const auto options = in.q.options();
    const auto& s = shape_;
    queries_ = (in.q * in.factor).permute({0, 2, 1, 3}).reshape({s.B * s.K, s.G, s.T, s.d});
    keys_ = in.k.permute({0, 2, 1, 3}).reshape({s.B * s.K, s.T, s.d});
    values_ = in.v.permute({0, 2, 1, 3}).reshape({s.B * s.K, s.T, s.d});
    result_.z = at::empty({s.B, s.T, s.H, s.d}, options);
    if (wants.rows) result_.rows = at::empty({s.B, s.H, row_statistics, s.T}, options);
    const auto wide = options.dtype(at::kDouble);
    result_.log_sum_exp = at::empty({s.B, s.H, s.T}, wide);
    for (const BlockColumns& columns : wants.columns) {
      weights_.push_back(columns.queries.to(wide).contiguous());
      strips_.push_back(at::zeros({s.strips, s.B * s.K, s.G, s.T}, wide));
    }
    if (in.slopes.defined()) {
      slopes_ = in.slopes.to(wide).contiguous();
      positions_ = in.positions.to(wide).contiguous();
    }
    if (in.sinks.defined()) sinks_ = in.sinks.to(wide).contiguous();
    if (in.first_unseen.defined()) unseen_ = in.first_unseen.to(at::kBool).contiguous();
  }

  BlockResult run() {
    share(shape_.B * shape_.K * shape_.strips, [&](std::int64_t unit) { work(unit); });
    for (const at::Tensor& strips : strips_) {
      at::Tensor sum = strips.select(0, 0).clone();
      for (std::int64_t i = 1; i < shape_.strips; ++i) sum.add_(strips.select(0, i));
      result_.columns.push_back(sum.view({shape_.B, shape_.H, shape_.T}));
    }
    return std::move(result_);
  }

 private:
  // One thread's place to work on a block of queries.
  struct Desk {
    std::int64_t unit = 0, strip = 0, group = 0;  // group: sequence times K + key head
    std::int64_t q0 = 0, n = 0, rows = 0;         // first query, queries, rows
    std::vector<Row> row = {};
    std::vector<Real> ratio = {};                  // of the tile just visited
    std::vector<std::vector<Real>> tile_top = {};  // the row's largest when each tile was weighed
    std::vector<std::int64_t> tile_first = {};     // its first key
    at::Tensor scores = {};                        // flat
    std::vector<at::Tensor> weights = {};          // of each tile, flat; one if nobody needs more
    at::Tensor out = {};                           // [rows, d]
    std::vector<Real> column = {};                 // one head's sums
  };

  std::int64_t first_key(std::int64_t query) const {
    if (in_.window <= 0) return 0;
    return in_.chunked ? query / in_.window * in_.window
                       : std::max<std::int64_t>(0, query - in_.window + 1);
  }

  void work(std::int64_t unit) {
    Desk desk;
    desk.group = unit / shape_.strips;
    desk.strip = unit % shape_.strips;
    const std::int64_t most = shape_.G * shape_.queries;
    desk.scores = at::empty({most * keys_per_tile_}, queries_.options());
    desk.row.resize(static_cast<std::size_t>(most));
    desk.ratio.resize(static_cast<std::size_t>(most));
    for (std::int64_t block = desk.strip; block < shape_.blocks; block += shape_.strips) {
      desk.q0 = block * shape_.queries;
      desk.n = std::min(shape_.queries, shape_.T - desk.q0);
      desk.rows = shape_.G * desk.n;
      attend(desk);
      finish(desk);
      for (std::size_t i = 0; i < strips_.size(); ++i) add_columns(desk, i);
    }
  }

  void attend(Desk& desk) {
    std::fill(desk.row.begin(), desk.row.end(), Row{});
    desk.tile_first.clear();
    const at::Tensor queries =
        queries_[desk.group].narrow(1, desk.q0, desk.n).reshape({desk.rows, shape_.d});
    desk.out = at::empty({desk.rows, shape_.d}, queries.options());
    const std::int64_t end = desk.q0 + desk.n;
    std::int64_t k0 = first_key(desk.q0) / keys_per_tile_ * keys_per_tile_;
    for (std::size_t tile = 0; k0 < end; k0 += keys_per_tile_, ++tile) {
      const std::int64_t width = std::min(keys_per_tile_, end - k0);
      at::Tensor scores = desk.scores.narrow(0, 0, desk.rows * width).view({desk.rows, width});
      at::mm_out(scores, queries, keys_[desk.group].narrow(0, k0, width).t());
      if (in_.cap > 0) scores.div_(in_.cap).tanh_().mul_(in_.cap);
      const std::size_t place = strips_.empty() ? 0 : tile;
      if (desk.weights.size() <= place) {
        desk.weights.push_back(
            at::empty({shape_.G * shape_.queries * keys_per_tile_}, queries_.options()));
        desk.tile_top.emplace_back(static_cast<std::size_t>(shape_.G * shape_.queries));
      }
      desk.tile_first.push_back(k0);
      at::Tensor weights =
          desk.weights[place].narrow(0, 0, desk.rows * width).view({desk.rows, width});
      centre(desk, scores, k0, desk.tile_top[place]);
      at::exp_out(weights, scores);
      add_up(desk, scores, weights);
      const at::Tensor values = values_[desk.group].narrow(0, k0, width);
      if (tile == 0) {
        at::mm_out(desk.out, weights, values);
      } else {
        rescale(desk);
        desk.out.addmm_(weights, values);
      }
    }
  }

  // Hides keys, finds each row's new largest score and takes it off.
  void centre(Desk& desk, const at::Tensor& scores, std::int64_t k0, std::vector<Real>& tile_top) {
    auto* x = scores.data_ptr<Real>();
    const std::int64_t width = scores.size(1);
    const bool past_end = k0 + width > desk.q0 + 1;
    const bool before_start = first_key(desk.q0 + desk.n - 1) > k0;
    for (std::int64_t r = 0; r < desk.rows; ++r, x += width) {
      const std::int64_t query = desk.q0 + r % desk.n;
      if (slopes_.defined()) incline(x, width, k0, query, desk.group, r / desk.n);
      if (before_start) {
        const std::int64_t skip = std::clamp<std::int64_t>(first_key(query) - k0, 0, width);
        std::fill_n(x, skip, static_cast<Real>(hidden));
      }
      if (past_end) {
        const std::int64_t seen = std::clamp<std::int64_t>(query + 1 - k0, 0, width);
        std::fill(x + seen, x + width, static_cast<Real>(hidden));
      }
      if (k0 == 0 && hides_first(query, desk.group, r / desk.n)) x[0] = static_cast<Real>(hidden);
      Row& row = desk.row[static_cast<std::size_t>(r)];
      if (k0 == 0) row.first = static_cast<double>(x[0]);
      const Real here = largest_of(x, width, static_cast<Real>(hidden));
      const double before = row.top;
      if (static_cast<double>(here) > before) {
        row.top = static_cast<double>(here);
        std::int64_t key = 0;
        while (key + 1 < width && x[key] != here) ++key;
        row.key = k0 + key;
      }
      // exp(-1e30) is 0, which is what is left of rows without a key so far.
      const double ratio = std::exp(before - row.top);
      row.moment = ratio * (row.moment + (before - row.top) * row.total);
      row.total *= ratio;
      desk.ratio[static_cast<std::size_t>(r)] = static_cast<Real>(ratio);
      const Real top = static_cast<Real>(row.top);
      tile_top[static_cast<std::size_t>(r)] = top;
      take_off(x, width, top);
    }
  }

  bool hides_first(std::int64_t query, std::int64_t group, std::int64_t head) const {
    if (!unseen_.defined()) return false;
    const std::int64_t row = group % shape_.K * shape_.G + head;
    return unseen_.data_ptr<bool>()[row * shape_.T + query];
  }

  void incline(Real* x, std::int64_t width, std::int64_t k0, std::int64_t query, std::int64_t group,
               std::int64_t head) const {
    const double slope = slopes_.data_ptr<double>()[group % shape_.K * shape_.G + head];
    const double* place = positions_.data_ptr<double>();
    for (std::int64_t i = 0; i < width; ++i) {
      x[i] += static_cast<Real>(slope * (place[k0 + i] - place[query]));
    }
  }

  void add_up(Desk& desk, const at::Tensor& scores, const at::Tensor& weights) const {
    const auto* d = scores.data_ptr<Real>();
    const auto* e = weights.data_ptr<Real>();
    const std::int64_t width = scores.size(1);
    for (std::int64_t r = 0; r < desk.rows; ++r, d += width, e += width) {
      const auto [total, moment] = sums_of(e, d, width);
      Row& row = desk.row[static_cast<std::size_t>(r)];
      row.total += total;
      row.moment += moment;
    }
  }

  void rescale(Desk& desk) const {
    auto* out = desk.out.template data_ptr<Real>();
    for (std::int64_t r = 0; r < desk.rows; ++r, out += shape_.d) {
      const Real ratio = desk.ratio[static_cast<std::size_t>(r)];
      if (ratio == Real{1}) continue;
      for (std::int64_t i = 0; i < shape_.d; ++i) out[i] *= ratio;
    }
  }

  // What a learned logit leaves to the keys.
  double left(const Desk& desk, std::int64_t r, double log_sum_exp) const {
    if (!sinks_.defined()) return 1.0;
    const std::int64_t head = desk.group % shape_.K * shape_.G + r / desk.n;
    return 1.0 / (1.0 + std::exp(sinks_.data_ptr<double>()[head] - log_sum_exp));
  }

  void finish(Desk& desk) {
    const auto* out = desk.out.template data_ptr<Real>();
    const std::int64_t b = desk.group / shape_.K;
    for (std::int64_t r = 0; r < desk.rows; ++r, out += shape_.d) {
      Row& row = desk.row[static_cast<std::size_t>(r)];
      const std::int64_t head = desk.group % shape_.K * shape_.G + r / desk.n;
      const std::int64_t query = desk.q0 + r % desk.n;
      const double log_total = std::log(row.total);
      const double share = left(desk, r, row.top + log_total);
      row.scale = share / row.total;
      const Real scale = static_cast<Real>(row.scale);
      Real* z = result_.z.data_ptr<Real>() + ((b * shape_.T + query) * shape_.H + head) * shape_.d;
      for (std::int64_t i = 0; i < shape_.d; ++i) z[i] = out[i] * scale;
      result_.log_sum_exp.data_ptr<double>()[(b * shape_.H + head) * shape_.T + query] =
          row.top + log_total;
      if (!wants_.rows) continue;
      Real* to =
          result_.rows.data_ptr<Real>() + (b * shape_.H + head) * row_statistics * shape_.T + query;
      const auto put = [&](RowStatistic which, double value) {
        to[static_cast<std::int64_t>(which) * shape_.T] = static_cast<Real>(value);
      };
      const double entropy = log_total - row.moment / row.total;
      put(RowStatistic::sink, row.scale * std::exp(row.first - row.top));
      put(RowStatistic::entropy, share * (entropy - std::log(share)));
      put(RowStatistic::top_key, static_cast<double>(row.key));
      put(RowStatistic::top, row.scale);
    }
  }

  void add_columns(Desk& desk, std::size_t which) {
    const std::int64_t b = desk.group / shape_.K;
    const bool own = wants_.columns[which].own;
    const double* counts = weights_[which].template data_ptr<double>() + b * shape_.T;
    double* sum = strips_[which].template data_ptr<double>() +
                  (desk.strip * shape_.B * shape_.K + desk.group) * shape_.G * shape_.T;
    const std::int64_t end = desk.q0 + desk.n;
    for (std::size_t tile = 0; tile < desk.tile_first.size(); ++tile) {
      const std::int64_t k0 = desk.tile_first[tile];
      const std::int64_t width = std::min(keys_per_tile_, end - k0);
      const auto* e = desk.weights[tile].template data_ptr<Real>();
      for (std::int64_t g = 0; g < shape_.G; ++g) {
        desk.column.assign(static_cast<std::size_t>(width), Real{0});
        Real* column = desk.column.data();
        for (std::int64_t i = 0; i < desk.n; ++i, e += width) {
          const std::int64_t query = desk.q0 + i;
          if (counts[query] == 0.0) continue;
          const auto r = static_cast<std::size_t>(g * desk.n + i);
          const Row& row = desk.row[r];
          const double behind = static_cast<double>(desk.tile_top[tile][r]) - row.top;
          const auto weight = static_cast<Real>(counts[query] * row.scale *
                                                (behind == 0.0 ? 1.0 : std::exp(behind)));
          const std::int64_t seen = std::clamp<std::int64_t>(query + (own ? 1 : 0) - k0, 0, width);
          add_weighted(column, e, seen, weight);
        }
        double* to = sum + g * shape_.T + k0;
        for (std::int64_t k = 0; k < width; ++k) to[k] += static_cast<double>(column[k]);
      }
    }
  }

  const BlockAttention& in_;
  const BlockWants& wants_;
  const std::int64_t keys_per_tile_;
  const Shape shape_;
  at::Tensor queries_;               // [B K, G, T, d]
  at::Tensor keys_;                  // [B K, T, d]
  at::Tensor values_;                // [B K, T, d]
  std::vector<at::Tensor> weights_;  // of queries, for each of the columns
  std::vector<at::Tensor> strips_;   // [strips, B K, G, T] for each of them
  at::Tensor slopes_;
  at::Tensor positions_;
  at::Tensor sinks_;
  at::Tensor unseen_;
  BlockResult result_;
};

}  // namespace

BlockResult attend_blocks(const BlockAttention& attention, const BlockWants& wants,
                          const BlockSizes& sizes) {
  if (attention.q.scalar_type() == at::kDouble)
    return Engine<double>(attention, wants, sizes).run();
  return Engine<float>(attention, wants, sizes).run();
}

std::int64_t block_elements(const ModelConfig& config, std::int64_t B, std::int64_t T,
                            int threads) {
  const BlockSizes sizes;
  const Shape s = shape_of_blocks(B, T, config.heads, config.kv_heads, config.d_head, sizes);
  const std::int64_t desk = s.G * s.queries * (T + 2 * sizes.keys + s.d);
  // Columns are summed in float64, and joined; the rest is rows and their log-sum-exp.
  return std::int64_t{threads} * desk + B * s.H * T * (2 * (s.strips + 1) + 8);
}

}  // namespace plumb
