// Which edges make a circuit: by threshold, by rank, greedily from the logits, or at random.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <tuple>

#include "circuit/edge_nodes.h"
#include "core/random.h"
#include "plumb/error.h"

namespace plumb {
namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

void check_number(const EdgeCircuit& circuit, std::int64_t n) {
  check(circuit);
  if (n < 0 || n > circuit.space.edges()) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("the model has {} edges, so a circuit cannot have {}",
                            circuit.space.edges(), n));
  }
}

double key(const EdgeCircuit& circuit, std::int64_t edge, bool absolute) {
  const double value = score(circuit, edge);
  return absolute ? std::abs(value) : value;
}

std::vector<std::int64_t> all_edges(const EdgeSpace& space) {
  std::vector<std::int64_t> edges(size(space.edges()));
  std::iota(edges.begin(), edges.end(), 0);
  return edges;
}

// [edges]: by sender, then by receiver, as a matrix of senders by receivers has them.
std::vector<std::int64_t> places(const EdgeSpace& space) {
  std::vector<std::int64_t> places(size(space.edges()));
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender)
      places[size(space.first_edge(receiver) + sender)] = sender * space.receivers() + receiver;
  }
  return places;
}

// Edges by falling key; equal ones in the order of their places.
std::vector<std::int64_t> ranked(const EdgeCircuit& circuit, bool absolute) {
  std::vector<std::int64_t> edges = all_edges(circuit.space);
  const std::vector<std::int64_t> place = places(circuit.space);
  std::sort(edges.begin(), edges.end(), [&](std::int64_t a, std::int64_t b) {
    return std::tuple(-key(circuit, a, absolute), place[size(a)]) <
           std::tuple(-key(circuit, b, absolute), place[size(b)]);
  });
  return edges;
}

// [edges]: of each receiver by layer, and its senders by layer; and how many such classes.
std::vector<std::int64_t> by_layers(const EdgeSpace& space) {
  std::vector<std::int64_t> classes(size(space.edges()));
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    const std::int64_t to = space.receiver(receiver).layer;
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t from = space.sender(sender).layer + 1;
      classes[size(space.first_edge(receiver) + sender)] = to * (space.layers() + 1) + from;
    }
  }
  return classes;
}

// [edges]: which tenth of all edges, by the score's size, an edge belongs to.
std::vector<std::int64_t> by_scores(const EdgeCircuit& circuit) {
  std::vector<std::int64_t> classes(size(circuit.space.edges()));
  const std::vector<std::int64_t> order = ranked(circuit, true);
  for (std::size_t i = 0; i < order.size(); ++i)
    classes[size(order[i])] = static_cast<std::int64_t>(10 * i / order.size());
  return classes;
}

EdgeCircuit with_edges(EdgeCircuit circuit, const std::vector<std::int64_t>& edges) {
  std::fill(circuit.in.begin(), circuit.in.end(), std::uint8_t{0});
  for (const std::int64_t edge : edges) circuit.in[size(edge)] = 1;
  return circuit;
}

// The first n of a shuffle of the list.
void draw(std::vector<std::int64_t>& list, std::int64_t n, Random& random) {
  const auto count = static_cast<std::int64_t>(list.size());
  for (std::int64_t i = 0; i < n; ++i)
    std::swap(list[size(i)], list[size(i + random.below(count - i))]);
  list.resize(size(n));
}

}  // namespace

EdgeCircuit above_threshold(EdgeCircuit circuit, double threshold, bool absolute) {
  check(circuit);
  if (std::isnan(threshold))
    throw Error(ErrorKind::bad_argument, "the threshold of a circuit is not a number");
  for (std::int64_t edge = 0; edge < circuit.space.edges(); ++edge)
    circuit.in[size(edge)] = key(circuit, edge, absolute) >= threshold ? 1 : 0;
  return circuit;
}

EdgeCircuit top_edges(EdgeCircuit circuit, std::int64_t n, bool absolute) {
  check_number(circuit, n);
  std::vector<std::int64_t> edges = ranked(circuit, absolute);
  edges.resize(size(n));
  return with_edges(std::move(circuit), edges);
}

EdgeCircuit greedy_edges(EdgeCircuit circuit, std::int64_t n, bool absolute) {
  check_number(circuit, n);
  const EdgeSpace& space = circuit.space;
  // Which receivers feed each sender; a key head's receivers come with the first of its heads.
  std::vector<std::vector<std::int64_t>> receivers(size(space.senders()));
  for (std::int64_t receiver = 0; receiver + 1 < space.receivers(); ++receiver) {
    const auto [from, to] = fed_by(space, receiver);
    for (std::int64_t sender = from; sender < to; ++sender)
      receivers[size(sender)].push_back(receiver);
  }
  std::vector<std::uint8_t> open(size(space.receivers()), 0);
  std::vector<std::uint8_t> node(size(space.senders()), 0);
  const std::vector<std::int64_t> place = places(space);
  using Candidate = std::tuple<double, std::int64_t, std::int64_t>;  // key, - place, edge
  std::priority_queue<Candidate> candidates;
  const auto enter = [&](std::int64_t receiver) {
    if (open[size(receiver)] != 0) return;
    open[size(receiver)] = 1;
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      candidates.emplace(key(circuit, edge, absolute), -place[size(edge)], edge);
    }
  };
  std::vector<std::int64_t> chosen;
  enter(space.receivers() - 1);
  while (static_cast<std::int64_t>(chosen.size()) < n && !candidates.empty()) {
    const std::int64_t edge = std::get<2>(candidates.top());
    candidates.pop();
    chosen.push_back(edge);
    const std::int64_t sender = space.ends(edge).sender;
    if (node[size(sender)] != 0) continue;
    node[size(sender)] = 1;
    for (const std::int64_t receiver : receivers[size(sender)]) enter(receiver);
  }
  return with_edges(std::move(circuit), chosen);
}

EdgeCircuit random_edges(const EdgeCircuit& like, std::uint64_t seed) {
  check(like);
  Random random(seed);
  std::vector<std::int64_t> edges = all_edges(like.space);
  draw(edges, count_edges(like), random);
  return with_edges(like, edges);
}

EdgeCircuit matched_edges(const EdgeCircuit& like, Matching matching, std::uint64_t seed) {
  check(like);
  const std::vector<std::int64_t> classes =
      matching == Matching::layers ? by_layers(like.space) : by_scores(like);
  const std::int64_t count =
      classes.empty() ? 0 : *std::max_element(classes.begin(), classes.end()) + 1;
  std::vector<std::vector<std::int64_t>> outside(size(count));
  std::vector<std::vector<std::int64_t>> inside(size(count));
  for (std::int64_t edge = 0; edge < like.space.edges(); ++edge)
    (has(like, edge) ? inside : outside)[size(classes[size(edge)])].push_back(edge);
  Random random(seed);
  std::vector<std::int64_t> chosen;
  for (std::int64_t each = 0; each < count; ++each) {
    std::vector<std::int64_t>& others = outside[size(each)];
    std::vector<std::int64_t>& own = inside[size(each)];
    const std::int64_t wanted = std::ssize(own);
    const std::int64_t fresh = std::min(wanted, std::int64_t{std::ssize(others)});
    draw(others, fresh, random);
    draw(own, wanted - fresh, random);
    chosen.insert(chosen.end(), others.begin(), others.end());
    chosen.insert(chosen.end(), own.begin(), own.end());
  }
  return with_edges(like, chosen);
}

}  // namespace plumb
