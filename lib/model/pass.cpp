#include "model/pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/parallel.h"

namespace plumb {

namespace {

// A shared piece of a lone tile's matrix products: fewer columns pack the inputs more often, fewer
// rows the weights.
constexpr std::int64_t rows_per_piece = 1024;
constexpr std::int64_t columns_per_piece = 384;
// So that threads have equal work: pieces of one size, and some of them even of a small product.
constexpr std::int64_t fewest_pieces = 4;
constexpr std::int64_t fewest_rows = 256;

std::int64_t parts_of(std::int64_t size, std::int64_t part) { return (size + part - 1) / part; }

// Not every processor's products of narrow numbers are summed in float32; those of GPUs are.
bool widens(const at::Tensor& x) { return is_narrow(x.scalar_type()) && x.device().is_cpu(); }

}  // namespace

at::Tensor Pass::inverse_rms(const at::Tensor& x) const {
  return (widened(x).square().mean(-1, true) + config_.norm_eps).rsqrt();
}

at::Tensor Pass::normalise(const at::Tensor& x, Site scale_site, Weight gain, Weight bias,
                           int layer, bool record) {
  const at::Tensor wide = widened(x);
  const at::Tensor y = config_.norm == Norm::layer ? wide - wide.mean(-1, true) : wide;
  at::Tensor scale = inverse_rms(y);
  scale = record ? tap_(scale_site, scale) : tap_.edit(scale_site, scale);
  at::Tensor result = y * rules().held(scale);
  if (const at::Tensor& factor = weight(gain, layer); factor.defined()) result = result * factor;
  if (const at::Tensor& shift = weight(bias, layer); shift.defined()) result = result + shift;
  return result.to(x.scalar_type());
}

at::Tensor Pass::write_factor(const at::Tensor& written, Site scale_site, Weight gain, int layer) {
  if (config_.norm_place == NormPlace::before) return {};
  const at::Tensor scale = rules().held(tap_(scale_site, inverse_rms(written)));
  const at::Tensor& factor = weight(gain, layer);
  return factor.defined() ? scale * factor : scale;
}

at::Tensor Pass::rms_norm(const at::Tensor& x, const at::Tensor& gain) const {
  const at::Tensor result = widened(x) * rules().held(inverse_rms(x));
  return (gain.defined() ? result * gain : result).to(x.scalar_type());
}

at::Tensor Pass::soft_cap(at::Tensor x, double cap) const {
  if (cap == 0.0) return x;
  if (rules().relevance && x.requires_grad()) return rules().ratio(x, (x / cap).tanh() * cap);
  const bool in_place = this->in_place() && !x.requires_grad();
  if (is_narrow(x.scalar_type())) {
    const at::Tensor capped = (widened(x) / cap).tanh() * cap;
    return in_place ? x.copy_(capped) : capped.to(x.scalar_type());
  }
  return in_place ? x.div_(cap).tanh_().mul_(cap) : (x / cap).tanh() * cap;
}

at::Tensor Pass::linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& out) const {
  if (!inputs_.lone && !out.defined()) return affine(x, weight, bias);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const at::Tensor result = out.defined() ? out : at::empty(shape, x.options());
  const bool wide = widens(x);
  const at::Tensor from = wide ? widened(x).reshape({-1, x.size(-1)}) : x.reshape({-1, x.size(-1)});
  const at::Tensor into = result.view({-1, weight.size(0)});
  const std::int64_t rows = from.size(0);
  const std::int64_t columns = into.size(1);
  std::int64_t across = 1;
  std::int64_t down = 1;
  if (inputs_.lone) {
    across = parts_of(columns, columns_per_piece);
    down = std::max(parts_of(rows, rows_per_piece),
                    std::min(parts_of(fewest_pieces, across), rows / fewest_rows));
  }
  const std::int64_t height = parts_of(rows, down);
  const std::int64_t width = parts_of(columns, across);
  share(across * down, [&](std::int64_t piece) {
    const std::int64_t row = piece / across * height;
    const std::int64_t column = piece % across * width;
    if (row >= rows || column >= columns) return;
    const at::Tensor a = from.narrow(0, row, std::min(height, rows - row));
    const std::int64_t count = std::min(width, columns - column);
    const at::Tensor b = weight.narrow(0, column, count).t();
    at::Tensor part = into.narrow(0, row, a.size(0)).narrow(1, column, count);
    if (wide) {
      const at::Tensor product = at::mm(a, widened(b));
      part.copy_(bias.defined() ? product + bias.narrow(0, column, count) : product);
    } else if (bias.defined()) {
      at::addmm_out(part, bias.narrow(0, column, count), a, b);
    } else {
      at::mm_out(part, a, b);
    }
  });
  return result;
}

at::Tensor Pass::affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!widens(x)) return at::linear(x, weight, bias);
  const at::Tensor wide_bias = bias.defined() ? widened(bias) : bias;
  return at::linear(widened(x), widened(weight), wide_bias).to(x.scalar_type());
}

at::Tensor Pass::batched_product(const at::Tensor& a, const at::Tensor& b) const {
  if (!inputs_.lone) return at::bmm(a, b);
  const at::Tensor result = at::empty({a.size(0), a.size(1), b.size(2)}, a.options());
  share(a.size(0), [&](std::int64_t i) {
    at::Tensor part = result.select(0, i);
    at::mm_out(part, a.select(0, i), b.select(0, i));
  });
  return result;
}

}  // namespace plumb
