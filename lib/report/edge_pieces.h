// What the reports of edge scores share.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plumb/attribute.h"

namespace plumb::report {

/// Names and scores, by falling absolute score, equal ones in their order; the sums over positions
/// where scores have that axis. `top` 0 = all.
std::vector<std::pair<std::string, double>> leading_edges(const EdgeScores& scores,
                                                          std::int64_t top);
/// [edges]: summed over positions where scores have that axis.
at::Tensor whole_scores(const EdgeScores& scores);
/// What names and numbers of edges mean.
std::vector<std::pair<std::string, std::string>> edge_conventions(const EdgeReport& report);

}  // namespace plumb::report
