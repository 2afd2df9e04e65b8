#include "lab/wiring.h"

#include <ATen/ATen.h>

namespace plumb::lab {

at::Tensor gaussian(Random& random, std::int64_t rows, std::int64_t columns, double deviation) {
  at::Tensor result = at::empty({rows, columns}, at::kDouble);
  double* values = result.data_ptr<double>();
  for (std::int64_t i = 0; i < rows * columns; ++i) values[i] = deviation * random.normal();
  return result;
}

at::Tensor orthonormal(Random& random, std::int64_t rows, std::int64_t columns) {
  // Gram and Schmidt, each column cleaned twice so that rounding leaves no trace of the earlier
  // ones.
  at::Tensor result = gaussian(random, columns, rows, 1.0);
  for (std::int64_t i = 0; i < columns; ++i) {
    at::Tensor row = result[i];
    if (i > 0) {
      const at::Tensor earlier = result.narrow(0, 0, i);
      for (int pass = 0; pass < 2; ++pass) row = row - earlier.t().mv(earlier.mv(row));
    }
    result[i].copy_(row / row.norm());
  }
  return result.t().contiguous();
}

at::Tensor codebook(Random& random, std::int64_t count, std::int64_t width, double limit) {
  at::Tensor result = at::zeros({count, width}, at::kDouble);
  for (std::int64_t i = 0; i < count;) {
    at::Tensor row = gaussian(random, 1, width, 1.0)[0];
    row = row / row.norm();
    if (i > 0 && result.narrow(0, 0, i).mv(row).max().item<double>() > limit) continue;
    result[i++].copy_(row);
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
