// The statements of a Graphviz text.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A node or an edge with its attributes; what is in braces, and legends, are left out.
struct DotStatement {
  std::string from = {};  ///< or the node, or "graph", "node", "edge"
  std::string to = {};    ///< empty if it is no edge
  std::map<std::string, std::string> attributes = {};
};

/// The statements of one `digraph`, in order. Understands what plumb writes: quoted names with \"
/// and \\, bare words, HTML strings, groups in braces (passed over). Throws bad_file for the rest.
std::vector<DotStatement> read_dot(std::string_view text);

}  // namespace plumb
