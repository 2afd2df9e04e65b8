#include "lab/wiring.h"

#include <ATen/ATen.h>

#include <cmath>

namespace plumb::lab {

at::Tensor gaussian(Random& random, std::int64_t rows, std::int64_t columns, double deviation) {
  at::Tensor result = at::empty({rows, columns}, at::kDouble);
  double* values = result.data_ptr<double>();
  for (std::int64_t i = 0; i < rows * columns; ++i) values[i] = deviation * random.normal();
  return result;
}

namespace {

// Gram and Schmidt on the rows, each cleaned twice so that rounding leaves no trace of the earlier
// ones.
void make_orthonormal(at::Tensor& rows) {
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    at::Tensor row = rows[i];
    if (i > 0) {
      const at::Tensor earlier = rows.narrow(0, 0, i);
      for (int pass = 0; pass < 2; ++pass) row = row - earlier.t().mv(earlier.mv(row));
    }
    rows[i].copy_(row / row.norm());
  }
}

}  // namespace

at::Tensor orthonormal(Random& random, std::int64_t rows, std::int64_t columns) {
  at::Tensor result = gaussian(random, columns, rows, 1.0);
  make_orthonormal(result);
  return result.t().contiguous();
}

at::Tensor orthonormal_without_mean(Random& random, std::int64_t rows, std::int64_t columns) {
  at::Tensor result = gaussian(random, columns + 1, rows, 1.0);
  result[0].fill_(1.0);
  make_orthonormal(result);
  return result.narrow(0, 1, columns).t().contiguous();
}

at::Tensor codebook(Random& random, std::int64_t count, std::int64_t width, double limit) {
  at::Tensor result = at::zeros({count, width}, at::kDouble);
  double* rows = result.data_ptr<double>();
  const auto product = [width](const double* a, const double* b) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < width; ++j) sum += a[j] * b[j];
    return sum;
  };
  // Plain loops: most draws are turned down, and a tensor for each would be what planting costs.
  for (std::int64_t i = 0; i < count;) {
    double* row = rows + i * width;
    for (std::int64_t j = 0; j < width; ++j) row[j] = random.normal();
    const double length = std::sqrt(product(row, row));
    for (std::int64_t j = 0; j < width; ++j) row[j] /= length;
    bool apart = true;
    for (std::int64_t other = 0; apart && other < i; ++other)
      apart = product(rows + other * width, row) <= limit;
    if (apart) ++i;
  }
  return result;
}

at::Tensor flat_channels() {
  return at::cat({at::arange(head::flat, head::pairs, at::kLong),
                  at::arange(head::flat + head::pairs, head::width, at::kLong)});
}

at::Tensor settled(const at::Tensor& value) {
  constexpr double grid = 262144.0;
  return (value * grid).round().div(grid).to(at::kFloat).contiguous();
}

}  // namespace plumb::lab
