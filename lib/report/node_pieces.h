// What the reports of node scores share.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plumb/attribute_nodes.h"

namespace plumb::report {

/// What names and numbers of nodes mean.
std::vector<std::pair<std::string, std::string>> node_conventions(const NodeReport& report);

/// "strongest", "doubtful", "sampled".
const char* name_of(CheckedAs as) noexcept;

/// Nodes that have a score, and the sum of its absolute values.
struct NodeTotal {
  std::int64_t nodes = 0;
  double sizes = 0.0;
};
NodeTotal total_of(const NodeReport& report);

/// What the bound of random sets rests on.
std::string set_bound_words(const NodeCheckOptions& options);

}  // namespace plumb::report
