// Nodes in plumb attribute.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plumb/attribute_nodes.h"
#include "shared.h"

namespace plumb::app {

/// Flags of which some are those of edges too.
struct NodeFlags {
  Common common = {};
  ModelFlags model = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::string metric = {};
  std::string method = {};
  std::optional<int> steps = {};
  std::optional<IgPoints> points = {};
  bool each = false;
  std::int64_t top = 0;
  std::int64_t check = 0;
  // Of nodes alone:
  std::vector<std::string> nodes = {};
  std::optional<Direction> direction = {};
  std::int64_t sets = 0;
};

/// --nodes, --direction and --sets. `common` is filled in elsewhere.
void offer_nodes(CLI::App& app, NodeFlags& flags);
/// Throws bad_argument where a flag of nodes stands beside a method for edges.
void refuse_node_flags(const NodeFlags& flags);
int run_attribute_nodes(const NodeFlags& flags, const std::string& command_line);

}  // namespace plumb::app
