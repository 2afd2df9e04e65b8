#include "lab/letters.h"

#include <ATen/ATen.h>

#include <string_view>

namespace plumb::lab {

at::Tensor letter_log_frequencies(std::int64_t count) {
  constexpr std::string_view by_rank =
      " etaoinshrdlucmfwygpbv,.k\nTIASHWMBCDPx-'\"jqzEOLNGRF;1?!0:9()";
  constexpr double fall = 9.0;  // ranks per factor of e
  constexpr double rare = -10.0;
  at::Tensor result = at::full({count}, rare, at::kDouble);
  double* values = result.data_ptr<double>();
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    const auto id = static_cast<std::int64_t>(static_cast<unsigned char>(by_rank[rank]));
    if (id < count) values[id] = -static_cast<double>(rank) / fall;
  }
  return at::log_softmax(result, 0);
}

}  // namespace plumb::lab
