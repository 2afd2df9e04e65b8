// Edge circuits put together, taken apart and compared.
#include <fmt/format.h>

#include <utility>

#include "plumb/attribute.h"
#include "plumb/edge_circuit.h"
#include "plumb/error.h"

namespace plumb {
namespace {

std::string words(const EdgeSpace& space) {
  return fmt::format("{} layers, {} heads, {} key heads{}", space.layers(), space.heads(),
                     space.kv_heads(), space.parallel() ? ", parallel" : "");
}

void check_alike(const EdgeCircuit& a, const EdgeCircuit& b) {
  check(a);
  check(b);
  if (a.space == b.space) return;
  throw Error(ErrorKind::bad_argument,
              fmt::format("circuits of different models: one has {}, the other {}", words(a.space),
                          words(b.space)));
}

template <typename Rule>
EdgeCircuit merged(EdgeCircuit a, const EdgeCircuit& b, Rule rule) {
  check_alike(a, b);
  for (std::size_t edge = 0; edge < a.in.size(); ++edge)
    a.in[edge] = rule(a.in[edge] != 0, b.in[edge] != 0) ? 1 : 0;
  return a;
}

double share(std::int64_t both, std::int64_t a, std::int64_t b) {
  const std::int64_t either = a + b - both;
  return either == 0 ? 1.0 : static_cast<double>(both) / static_cast<double>(either);
}

}  // namespace

EdgeCircuit united(EdgeCircuit a, const EdgeCircuit& b) {
  return merged(std::move(a), b, [](bool x, bool y) { return x || y; });
}
EdgeCircuit shared(EdgeCircuit a, const EdgeCircuit& b) {
  return merged(std::move(a), b, [](bool x, bool y) { return x && y; });
}
EdgeCircuit without(EdgeCircuit a, const EdgeCircuit& b) {
  return merged(std::move(a), b, [](bool x, bool y) { return x && !y; });
}

Overlap compare(const EdgeCircuit& a, const EdgeCircuit& b) {
  check_alike(a, b);
  Overlap made{.a = count_edges(a), .b = count_edges(b), .both = count_edges(shared(a, b))};
  const auto nodes_a = senders_in(a);
  const auto nodes_b = senders_in(b);
  for (std::size_t node = 0; node < nodes_a.size(); ++node) {
    made.nodes_a += nodes_a[node];
    made.nodes_b += nodes_b[node];
    made.nodes_both += nodes_a[node] & nodes_b[node];
  }
  made.jaccard = share(made.both, made.a, made.b);
  made.nodes_jaccard = share(made.nodes_both, made.nodes_a, made.nodes_b);
  const EdgeAgreement scores = compare(scores_of(a), scores_of(b), 0);
  made.pearson = scores.pearson;
  made.spearman = scores.spearman;
  return made;
}

}  // namespace plumb
