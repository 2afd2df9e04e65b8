#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/random.h"
#include "lab/letters.h"
#include "plumb/error.h"
#include "plumb/plant.h"

namespace plumb {

namespace {

constexpr std::int64_t bytes = 256;

// The first index whose running sum exceeds a uniform draw.
std::int64_t draw(Random& random, const double* sums) {
  const double level = random.uniform() * sums[bytes - 1];
  return std::min<std::int64_t>(std::upper_bound(sums, sums + bytes, level) - sums, bytes - 1);
}

}  // namespace

at::Tensor plant_tokens(const Planted& planted, std::uint64_t seed, std::int64_t n,
                        std::int64_t length) {
  constexpr std::int64_t most = std::int64_t{1} << 26;
  if (n < 1 || length < 1 || n > most / length) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("plant_tokens: n and length must be at least 1 and n * length at most "
                            "{}, not {} * {}",
                            most, n, length));
  }
  const at::Tensor sums = planted.bigram.narrow(1, 0, bytes).exp().cumsum(1).contiguous();
  const at::Tensor first = lab::letter_log_frequencies(bytes).exp().cumsum(0).contiguous();
  const Random random(seed);
  at::Tensor ids = at::empty({n, length}, at::kLong);
  auto* out = ids.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    Random own = random.fork(static_cast<std::uint64_t>(i));
    std::int64_t id = draw(own, first.data_ptr<double>());
    for (std::int64_t t = 0; t < length; ++t) {
      const double* next = sums.data_ptr<double>() + id * bytes;
      const std::int64_t before = id;
      if (t > 0) id = draw(own, next);
      // A second token equal to the first would be a second position 0.
      while (t == 1 && id == before) id = draw(own, next);
      out[i * length + t] = id;
    }
  }
  return ids;
}

}  // namespace plumb
