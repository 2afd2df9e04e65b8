#include "model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/precision.h"

namespace plumb {

namespace {

double base_frequency(double theta, int pair, int dims) {
  return std::pow(theta, -2.0 * pair / dims);
}

// The pair whose wavelength makes `rotations` turns within the original context (yarn).
double yarn_pair(const Rope& rope, double rotations) {
  return rope.dims * std::log(rope.original_context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.theta));
}

double yarn_frequency(const Rope& rope, int pair) {
  double low = yarn_pair(rope, rope.beta_fast);
  double high = yarn_pair(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.dims - 1.0);
  if (low == high) high += 0.001;  // keeps the ramp finite
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  const double frequency = base_frequency(rope.theta, pair, rope.dims);
  return frequency / rope.factor * ramp + frequency * (1.0 - ramp);
}

double llama3_frequency(const Rope& rope, int pair) {
  const double frequency = base_frequency(rope.theta, pair, rope.dims);
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double low_wavelength = rope.original_context / rope.low_freq_factor;
  const double high_wavelength = rope.original_context / rope.high_freq_factor;
  if (wavelength > low_wavelength) return frequency / rope.factor;
  if (wavelength < high_wavelength) return frequency;
  const double smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

double dynamic_theta(const Rope& rope, std::int64_t length) {
  if (length <= rope.original_context) return rope.theta;
  const double stretch =
      rope.factor * static_cast<double>(length) / rope.original_context - (rope.factor - 1.0);
  return rope.theta * std::pow(stretch, rope.dims / (rope.dims - 2.0));
}

at::Tensor query_growth(const Rope& rope, const std::vector<std::int64_t>& positions) {
  std::vector<double> factors;
  factors.reserve(positions.size());
  for (const std::int64_t position : positions) {
    const auto spans = static_cast<double>((position + 1) / rope.query_span);
    factors.push_back(1.0 + rope.query_growth * std::log1p(spans));
  }
  return at::tensor(factors, at::kDouble).view({-1, 1, 1});
}

}  // namespace

RopeTable make_rope_table(const Rope& rope, const std::vector<std::int64_t>& positions,
                          const at::TensorOptions& options) {
  const std::int64_t pairs = rope.dims / 2;
  const auto count = static_cast<std::int64_t>(positions.size());
  const std::int64_t length = count == 0 ? 0 : *std::ranges::max_element(positions) + 1;
  const auto cpu = at::TensorOptions().dtype(at::kDouble);
  at::Tensor cosines = at::empty({count, 1, pairs}, cpu);
  at::Tensor sines = at::empty({count, 1, pairs}, cpu);
  auto* cosine = cosines.data_ptr<double>();
  auto* sine = sines.data_ptr<double>();
  const double theta =
      rope.scaling == RopeScaling::dynamic ? dynamic_theta(rope, length) : rope.theta;
  for (int pair = 0; pair < pairs; ++pair) {
    double frequency = base_frequency(theta, pair, rope.dims);
    if (rope.scaling == RopeScaling::linear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::llama3) frequency = llama3_frequency(rope, pair);
    if (rope.scaling == RopeScaling::yarn) frequency = yarn_frequency(rope, pair);
    if (rope.scaling == RopeScaling::longrope) {
      const auto& divisors =
          length > rope.original_context ? rope.long_factors : rope.short_factors;
      frequency /= divisors[static_cast<std::size_t>(pair)];
    }
    for (std::int64_t t = 0; t < count; ++t) {
      const double angle = static_cast<double>(positions[static_cast<std::size_t>(t)]) * frequency;
      cosine[t * pairs + pair] = std::cos(angle) * rope.attention_factor;
      sine[t * pairs + pair] = std::sin(angle) * rope.attention_factor;
    }
  }
  const auto wide = options.dtype(sum_type(c10::typeMetaToScalarType(options.dtype())));
  RopeTable table{.cos = cosines.to(wide), .sin = sines.to(wide)};
  if (rope.query_growth != 0) table.growth = query_growth(rope, positions).to(wide);
  return table;
}

at::Tensor rotate(const at::Tensor& x, const RopeTable& table, int dims) {
  const std::int64_t half = dims / 2;
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  const at::Tensor rotated_first = first * table.cos - second * table.sin;
  const at::Tensor rotated_second = second * table.cos + first * table.sin;
  std::vector<at::Tensor> channels = {rotated_first, rotated_second};
  if (dims < x.size(-1)) channels.push_back(widened(x.narrow(-1, dims, x.size(-1) - dims)));
  return at::cat(channels, -1).to(x.scalar_type());
}

}  // namespace plumb
