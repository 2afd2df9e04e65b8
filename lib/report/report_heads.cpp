#include "plumb/report_heads.h"

#include <ATen/ATen.h>

#include "report/heads_pieces.h"
#include "report/text_pieces.h"

namespace plumb::report {

std::string attention_table(const HeadAttention& heads) {
  const auto of_layers = [](const at::Tensor& value) {  // of [B, L, H]
    return value.to(at::kCPU, at::kDouble).mean(c10::IntArrayRef{0, 2});
  };
  const at::Tensor entropy = of_layers(heads.entropy);
  const at::Tensor log_sum_exp = of_layers(heads.log_sum_exp);
  const at::Tensor at_zero = of_layers(heads.top_at_zero);
  const at::Tensor share = of_layers(heads.top_share);
  const at::Tensor zero_heads = of_layers(heads.top_key.eq(0));
  std::vector<std::vector<std::string>> rows;
  for (std::int64_t l = 0; l < entropy.size(0); ++l) {
    const auto at_layer = [l](const at::Tensor& value) { return value[l].item<double>(); };
    rows.push_back({std::to_string(l), show_value(at_layer(entropy)),
                    show_norm(at_layer(log_sum_exp)), show_share(at_layer(at_zero)),
                    show_share(at_layer(zero_heads)), show_share(at_layer(share))});
  }
  return columns({"layer", "entropy", "log-sum-exp", "top at 0", "top key 0", "top share"}, rows) +
         wrap(
             "entropy: nats of a query's attention; log-sum-exp: of its scores; top at 0: queries "
             "that attend to position 0 most; top key 0: heads in which more queries attend to "
             "position 0 most than to any other key; top share: queries that attend to their "
             "head's top key most. Means over the same queries, heads and sequences.");
}

Json to_json(const HeadAttention& heads) {
  return {{"entropy", to_json(heads.entropy.mean(0))},
          {"log_sum_exp", to_json(heads.log_sum_exp.mean(0))},
          {"top_key", to_json(std::get<0>(heads.top_key.mode(0)))},
          {"top_share", to_json(heads.top_share.mean(0))},
          {"top_at_zero", to_json(heads.top_at_zero.mean(0))}};
}

void put_heads(ArchiveWriter& file, const std::string& group, const HeadAttention& heads) {
  const auto tensor = [&](const char* name, const at::Tensor& value, const char* unit,
                          const char* note) {
    file.dataset(group + "/" + name, value.cpu().contiguous(),
                 {{"batch", "layer", "head"}, unit, note});
  };
  tensor("entropy", heads.entropy, "nats", "of a query's attention, mean over the chosen queries");
  tensor("log_sum_exp", heads.log_sum_exp, "score",
         "of the scores of the keys a query sees, mean over the chosen queries");
  tensor("top_key", heads.top_key, "position",
         "the key that most of the chosen queries attend to most, the first of equals");
  tensor("top_share", heads.top_share, "share of queries", "those that attend to it most");
  tensor("top_at_zero", heads.top_at_zero, "share of queries",
         "those that attend to position 0 most");
}

}  // namespace plumb::report
