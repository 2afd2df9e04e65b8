// Edge circuits put together, taken apart and compared.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

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

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double aa = 0.0;
  double bb = 0.0;
  double ab = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
    ab += (a[i] - mean_a) * (b[i] - mean_b);
  }
  if (aa == 0.0 || bb == 0.0) return std::numeric_limits<double>::quiet_NaN();
  return ab / (std::sqrt(aa) * std::sqrt(bb));
}

// Ranks from 0; equal values share the mean of theirs.
std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> made(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double rank = 0.5 * static_cast<double>(first + last - 1);
    for (; first < last; ++first) made[order[first]] = rank;
  }
  return made;
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
  made.pearson = correlation(a.scores, b.scores);
  made.spearman = correlation(ranks(a.scores), ranks(b.scores));
  return made;
}

}  // namespace plumb
