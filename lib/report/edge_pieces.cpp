#include "report/edge_pieces.h"

#include <ATen/ATen.h>

#include "report/patch_pieces.h"

namespace plumb::report {

at::Tensor whole_scores(const EdgeScores& scores) {
  return scores.values.dim() == 1 ? scores.values : scores.values.sum(0);
}

std::vector<std::pair<std::string, double>> leading_edges(const EdgeScores& scores,
                                                          std::int64_t top) {
  const at::Tensor values = whole_scores(scores).contiguous();
  std::vector<std::pair<std::string, double>> named;
  for (const std::int64_t edge : strongest_edges(scores, top > 0 ? top : values.size(0)))
    named.emplace_back(scores.space.edge_name(edge), values.data_ptr<double>()[edge]);
  return named;
}

std::vector<std::pair<std::string, std::string>> edge_conventions(const EdgeReport& report) {
  return {{"score", report.scores.convention},
          {"metric", metric_words(report.metric)},
          {"edges",
           "sender->receiver; heads read by queries <q>, keys <k> and values <v>, the last two by "
           "key head; layers and heads counted from 0"},
          {"read-out", reads_block(report.metric)
                           ? "logits stands for what the metric reads: edges into it are of the "
                             "stream that it reads itself"
                           : "the logits, through the final norm"},
          {"divisor", "the number of pairs; scores do not depend on how pairs are batched"}};
}

}  // namespace plumb::report
