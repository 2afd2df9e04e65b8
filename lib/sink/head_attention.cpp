#include "plumb/head_attention.h"

#include <ATen/ATen.h>

#include "sink/reductions.h"

namespace plumb {

HeadAttention head_attention(const at::Tensor& statistics, const at::Tensor& log_sum_exp) {
  return {.entropy = statistics.select(3, 0).contiguous(),
          .log_sum_exp = log_sum_exp,
          .top_key = statistics.select(3, 1).to(at::kLong),
          .top_share = statistics.select(3, 2).contiguous(),
          .top_at_zero = statistics.select(3, 3).contiguous()};
}

}  // namespace plumb
