// Key and value edges of groups of heads, one for the group or one for each head.
#include <fmt/format.h>

#include <utility>

#include "circuit/edge_nodes.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

bool is_key_or_value(const EdgeReceiver& reader) {
  return reader.kind == EdgeReceiver::Kind::k || reader.kind == EdgeReceiver::Kind::v;
}

EdgeCircuit alike(const EdgeCircuit& circuit, int kv_heads) {
  const EdgeSpace& space = circuit.space;
  EdgeCircuit made =
      empty_circuit(EdgeSpace(space.layers(), space.heads(), kv_heads, space.parallel()));
  made.d_model = circuit.d_model;
  made.title = circuit.title;
  made.convention = circuit.convention;
  return made;
}

}  // namespace

// The parts of a score sum, one after another, to the score itself: the last one is what the sum
// of the others leaves, a difference that has no rounding error as neither is twice the other.
EdgeCircuit ungrouped(const EdgeCircuit& circuit) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  const int group = space.heads() / space.kv_heads();
  EdgeCircuit made = alike(circuit, space.heads());
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    EdgeReceiver reader = space.receiver(receiver);
    const int members = is_key_or_value(reader) ? group : 1;
    if (members > 1) reader.head *= group;
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      const double whole = score(circuit, edge);
      double sum = 0.0;
      EdgeReceiver member = reader;
      for (int i = 0; i < members; ++i) {
        const double part = i + 1 < members ? whole / members : whole - sum;
        sum += part;
        const auto place =
            static_cast<std::size_t>(made.space.first_edge(made.space.index_of(member)) + sender);
        made.scores[place] = part;
        made.in[place] = circuit.in[static_cast<std::size_t>(edge)];
        ++member.head;
      }
    }
  }
  return made;
}

EdgeCircuit grouped(const EdgeCircuit& circuit, int kv_heads) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  if (space.kv_heads() == kv_heads) return circuit;
  if (space.kv_heads() != space.heads() || kv_heads < 1 || space.heads() % kv_heads != 0) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("a circuit of {} heads and {} key heads cannot be made one of {} key "
                            "heads",
                            space.heads(), space.kv_heads(), kv_heads));
  }
  const int group = space.heads() / kv_heads;
  EdgeCircuit made = alike(circuit, kv_heads);
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    EdgeReceiver reader = space.receiver(receiver);
    if (is_key_or_value(reader)) reader.head /= group;
    const std::int64_t first = made.space.first_edge(made.space.index_of(reader));
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      const auto place = static_cast<std::size_t>(first + sender);
      made.scores[place] += score(circuit, edge);
      if (has(circuit, edge)) made.in[place] = 1;
    }
  }
  return made;
}

}  // namespace plumb
