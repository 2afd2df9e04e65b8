// Which components a receiver's input makes.
#pragma once

#include <cstdint>
#include <utility>

#include "plumb/edges.h"

namespace plumb {

/// The senders whose writes the receiver's input makes: [first, last). Of the logits none.
inline std::pair<std::int64_t, std::int64_t> fed_by(const EdgeSpace& space, std::int64_t receiver) {
  const EdgeReceiver reader = space.receiver(receiver);
  const auto head = [&](int h) {
    return space.index_of(EdgeSender{EdgeSender::Kind::head, reader.layer, h});
  };
  switch (reader.kind) {
    case EdgeReceiver::Kind::q: return {head(reader.head), head(reader.head) + 1};
    case EdgeReceiver::Kind::k:
    case EdgeReceiver::Kind::v: {
      const int group = space.heads() / space.kv_heads();
      return {head(reader.head * group), head(reader.head * group) + group};
    }
    case EdgeReceiver::Kind::mlp: {
      const auto mlp = space.index_of(EdgeSender{EdgeSender::Kind::mlp, reader.layer, -1});
      return {mlp, mlp + 1};
    }
    case EdgeReceiver::Kind::logits: break;
  }
  return {space.senders(), space.senders()};
}

}  // namespace plumb
