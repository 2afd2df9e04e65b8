#include "plumb/edge_circuit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "circuit/edge_nodes.h"
#include "plumb/error.h"
#include "plumb/evaluate.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::bad_argument, "edge circuit: " + what);
}

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

}  // namespace

EdgeCircuit empty_circuit(const EdgeSpace& space) {
  return {.space = space,
          .in = std::vector<std::uint8_t>(size(space.edges()), 0),
          .scores = std::vector<double>(size(space.edges()), 0.0)};
}

EdgeCircuit full_circuit(const EdgeSpace& space) { return complement(empty_circuit(space)); }

EdgeCircuit scored_circuit(const EdgeScores& scores, int d_model) {
  EdgeCircuit made = empty_circuit(scores.space);
  at::Tensor values = scores.values;
  if (values.defined() && values.dim() == 2) values = values.sum(0);
  if (!values.defined() || values.dim() != 1 || values.size(0) != scores.space.edges()) {
    refuse(fmt::format("expected a score for each of {} edges, got {}", scores.space.edges(),
                       values.defined() ? values.numel() : 0));
  }
  const at::Tensor plain = values.to(at::kCPU, at::kDouble).contiguous();
  const auto* const data = plain.data_ptr<double>();
  made.scores.assign(data, data + plain.numel());
  made.d_model = d_model;
  made.title = scores.method;
  made.convention = scores.convention;
  check(made);
  return made;
}

EdgeScores scores_of(const EdgeCircuit& circuit) {
  return {.space = circuit.space,
          .values = at::tensor(circuit.scores, at::kDouble),
          .method = circuit.title,
          .convention = circuit.convention};
}

void check(const EdgeCircuit& circuit) {
  const std::size_t edges = size(circuit.space.edges());
  if (circuit.in.size() != edges || circuit.scores.size() != edges) {
    refuse(fmt::format("expected an entry for each of {} edges, got {} and {} scores", edges,
                       circuit.in.size(), circuit.scores.size()));
  }
  if (circuit.d_model < 0) refuse(fmt::format("a width of {} is none", circuit.d_model));
  for (std::size_t edge = 0; edge < edges; ++edge) {
    const auto name = [&] { return circuit.space.edge_name(static_cast<std::int64_t>(edge)); };
    if (circuit.in[edge] > 1) refuse(fmt::format("edge {} is neither in nor out", name()));
    if (!std::isfinite(circuit.scores[edge]))
      refuse(fmt::format("the score of edge {} is not finite", name()));
  }
}

std::int64_t count_edges(const EdgeCircuit& circuit) {
  return std::count_if(circuit.in.begin(), circuit.in.end(),
                       [](std::uint8_t in) { return in != 0; });
}

std::vector<std::uint8_t> senders_in(const EdgeCircuit& circuit) {
  const EdgeSpace& space = circuit.space;
  std::vector<std::uint8_t> used(size(space.senders()), 0);
  std::vector<std::uint8_t> entered(size(space.receivers()), 0);
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    const std::int64_t first = space.first_edge(receiver);
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      if (has(circuit, first + sender)) used[size(sender)] = entered[size(receiver)] = 1;
    }
  }
  // Of a group of heads those that nothing leaves count only if nothing leaves any of them.
  const std::vector<std::uint8_t> left = used;
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    if (entered[size(receiver)] == 0) continue;
    const auto [from, to] = fed_by(space, receiver);
    if (std::any_of(left.begin() + from, left.begin() + to, [](auto each) { return each != 0; }))
      continue;
    std::fill(used.begin() + from, used.begin() + to, std::uint8_t{1});
  }
  return used;
}

std::int64_t count_nodes(const EdgeCircuit& circuit) {
  const auto used = senders_in(circuit);
  return std::count(used.begin(), used.end(), std::uint8_t{1});
}

// Senders stand in the order in which they write, so that one pass each way is enough.
Reach reach_of(const EdgeCircuit& circuit) {
  return reach_of(circuit, edge_ends(circuit.space, {}));
}

Reach reach_of(const EdgeCircuit& circuit, const EdgeEnds& ends) {
  const EdgeSpace& space = circuit.space;
  Reach reach{std::vector<std::uint8_t>(size(space.senders()), 0),
              std::vector<std::uint8_t>(size(space.senders()) + 1, 0)};
  if (space.edges() == 0) return reach;
  reach.reached[0] = 1;
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    const std::int64_t first = space.first_edge(receiver);
    const auto [from, to] = fed_by(space, receiver);
    bool arrives = false;
    for (std::int64_t sender = 0; sender < space.seen_by(receiver) && !arrives; ++sender)
      arrives = has(circuit, first + sender) && reach.reached[size(sender)] != 0;
    for (std::int64_t sender = from; sender < to && arrives; ++sender)
      reach.reached[size(sender)] = 1;
  }
  reach.reaches.back() = 1;
  for (std::int64_t receiver = space.receivers() - 1; receiver >= 0; --receiver) {
    const auto [from, to] = fed_by(space, receiver);
    const bool leads =
        ends.read(receiver) || std::any_of(reach.reaches.begin() + from, reach.reaches.begin() + to,
                                           [](std::uint8_t each) { return each != 0; });
    if (!leads) continue;
    const std::int64_t first = space.first_edge(receiver);
    for (std::int64_t sender = 0; sender < ends.seen_by(space, receiver); ++sender) {
      if (has(circuit, first + sender)) reach.reaches[size(sender)] = 1;
    }
  }
  return reach;
}

EdgeCircuit pruned(EdgeCircuit circuit) {
  const EdgeEnds ends = edge_ends(circuit.space, {});
  return pruned(std::move(circuit), ends);
}

EdgeCircuit pruned(EdgeCircuit circuit, const EdgeEnds& ends) {
  const EdgeSpace& space = circuit.space;
  const Reach reach = reach_of(circuit, ends);
  const auto alive = [&](std::int64_t sender) {
    return reach.reached[size(sender)] != 0 && reach.reaches[size(sender)] != 0;
  };
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    const auto [from, to] = fed_by(space, receiver);
    bool kept = ends.read(receiver);
    for (std::int64_t sender = from; sender < to; ++sender) kept = kept || alive(sender);
    const std::int64_t first = space.first_edge(receiver);
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      if (!kept || !alive(sender) || sender >= ends.seen_by(space, receiver))
        circuit.in[size(first + sender)] = 0;
    }
  }
  return circuit;
}

EdgeCircuit complement(EdgeCircuit circuit) {
  for (std::uint8_t& in : circuit.in) in = in == 0 ? 1 : 0;
  return circuit;
}

Circuit named(const EdgeCircuit& circuit) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  Circuit made{.title = circuit.title, .convention = circuit.convention};
  const auto used = senders_in(circuit);
  std::vector<double> left(used.size(), 0.0);  // sums of the scores of the edges that leave
  const std::int64_t last = space.receivers() - 1;
  bool arrives = false;
  for (std::int64_t receiver = 0; receiver <= last; ++receiver) {
    const EdgeReceiver reader = space.receiver(receiver);
    const std::string kind = reader.kind == EdgeReceiver::Kind::q   ? "q"
                             : reader.kind == EdgeReceiver::Kind::k ? "k"
                             : reader.kind == EdgeReceiver::Kind::v ? "v"
                                                                    : "";
    const std::int64_t first = space.first_edge(receiver);
    const auto [from, to] = fed_by(space, receiver);
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = first + sender;
      if (!has(circuit, edge)) continue;
      left[size(sender)] += score(circuit, edge);
      arrives = arrives || receiver == last;
      if (receiver == last)
        made.edges.push_back({space.sender_name(sender), "logits", score(circuit, edge), kind});
      for (std::int64_t node = from; node < to; ++node) {
        if (used[size(node)] == 0) continue;
        made.edges.push_back(
            {space.sender_name(sender), space.sender_name(node), score(circuit, edge), kind});
      }
    }
  }
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    if (used[size(sender)] == 0) continue;
    const EdgeSender writer = space.sender(sender);
    const char* kind = writer.kind == EdgeSender::Kind::input ? "input"
                       : writer.kind == EdgeSender::Kind::mlp ? "mlp"
                                                              : "head";
    made.nodes.push_back({space.sender_name(sender), kind, writer.layer, left[size(sender)], {}});
  }
  if (arrives) made.nodes.push_back({"logits", "logits", space.layers(), 0.0, {}});
  return made;
}

}  // namespace plumb
