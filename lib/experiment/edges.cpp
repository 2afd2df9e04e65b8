#include "plumb/edges.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "plumb/error.h"

namespace plumb {
namespace {

// Reads a number off the front of the text.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  // One spelling for each number: "01" and "-1" name nothing.
  if (error != std::errc() || text.front() == '-' || (text.front() == '0' && end - text.data() > 1))
    return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

EdgeSpace::EdgeSpace(int layers, int heads, int kv_heads, bool parallel)
    : layers_(layers), heads_(heads), kv_heads_(kv_heads), parallel_(parallel) {
  if (layers <= 0 || heads <= 0 || kv_heads <= 0 || heads % kv_heads != 0)
    throw Error(ErrorKind::bad_argument,
                fmt::format("a graph of edges needs layers, heads and key heads, the heads a "
                            "multiple of the key heads; here are {}, {} and {}",
                            layers, heads, kv_heads));
  first_.assign(static_cast<std::size_t>(receivers()) + 1, 0);
  for (std::int64_t r = 0; r < receivers(); ++r)
    first_[static_cast<std::size_t>(r) + 1] = first_[static_cast<std::size_t>(r)] + seen_by(r);
}

EdgeSpace::EdgeSpace(const ModelConfig& config)
    : EdgeSpace(config.layers, config.heads, config.kv_heads, config.parallel) {}

std::int64_t EdgeSpace::senders() const { return 1 + std::int64_t{layers_} * (heads_ + 1); }

std::int64_t EdgeSpace::receivers() const {
  return std::int64_t{layers_} * (heads_ + 2 * kv_heads_ + 1) + 1;
}

EdgeSender EdgeSpace::sender(std::int64_t index) const {
  if (index == 0) return {};
  const auto layer = static_cast<int>((index - 1) / (heads_ + 1));
  const auto place = static_cast<int>((index - 1) % (heads_ + 1));
  if (place == heads_) return {EdgeSender::Kind::mlp, layer, -1};
  return {EdgeSender::Kind::head, layer, place};
}

EdgeReceiver EdgeSpace::receiver(std::int64_t index) const {
  const int width = heads_ + 2 * kv_heads_ + 1;
  const auto layer = static_cast<int>(index / width);
  auto place = static_cast<int>(index % width);
  if (layer == layers_) return {EdgeReceiver::Kind::logits, layer, -1};
  if (place < heads_) return {EdgeReceiver::Kind::q, layer, place};
  place -= heads_;
  if (place < kv_heads_) return {EdgeReceiver::Kind::k, layer, place};
  place -= kv_heads_;
  if (place < kv_heads_) return {EdgeReceiver::Kind::v, layer, place};
  return {EdgeReceiver::Kind::mlp, layer, -1};
}

std::int64_t EdgeSpace::index_of(const EdgeSender& sender) const {
  if (sender.kind == EdgeSender::Kind::input) return 0;
  const std::int64_t first = 1 + std::int64_t{sender.layer} * (heads_ + 1);
  return first + (sender.kind == EdgeSender::Kind::mlp ? heads_ : sender.head);
}

std::int64_t EdgeSpace::index_of(const EdgeReceiver& receiver) const {
  const std::int64_t first = std::int64_t{receiver.layer} * (heads_ + 2 * kv_heads_ + 1);
  switch (receiver.kind) {
    case EdgeReceiver::Kind::q: return first + receiver.head;
    case EdgeReceiver::Kind::k: return first + heads_ + receiver.head;
    case EdgeReceiver::Kind::v: return first + heads_ + kv_heads_ + receiver.head;
    case EdgeReceiver::Kind::mlp: return first + heads_ + 2 * kv_heads_;
    case EdgeReceiver::Kind::logits: break;
  }
  return receivers() - 1;
}

std::int64_t EdgeSpace::seen_by(std::int64_t index) const {
  const EdgeReceiver reader = receiver(index);
  const std::int64_t before = 1 + std::int64_t{reader.layer} * (heads_ + 1);
  const bool own_heads = reader.kind == EdgeReceiver::Kind::mlp && !parallel_;
  return before + (own_heads ? heads_ : 0);
}

std::int64_t EdgeSpace::first_edge(std::int64_t receiver) const {
  return first_.at(static_cast<std::size_t>(receiver));
}

EdgeSpace::Ends EdgeSpace::ends(std::int64_t edge) const {
  const auto next = std::upper_bound(first_.begin(), first_.end(), edge);
  const std::int64_t receiver = std::distance(first_.begin(), next) - 1;
  return {edge - first_edge(receiver), receiver};
}

std::string EdgeSpace::sender_name(std::int64_t index) const {
  const EdgeSender writer = sender(index);
  switch (writer.kind) {
    case EdgeSender::Kind::head: return fmt::format("a{}.h{}", writer.layer, writer.head);
    case EdgeSender::Kind::mlp: return fmt::format("m{}", writer.layer);
    case EdgeSender::Kind::input: break;
  }
  return "input";
}

std::string EdgeSpace::receiver_name(std::int64_t index) const {
  const EdgeReceiver reader = receiver(index);
  switch (reader.kind) {
    case EdgeReceiver::Kind::q: return fmt::format("a{}.h{}<q>", reader.layer, reader.head);
    case EdgeReceiver::Kind::k: return fmt::format("a{}.h{}<k>", reader.layer, reader.head);
    case EdgeReceiver::Kind::v: return fmt::format("a{}.h{}<v>", reader.layer, reader.head);
    case EdgeReceiver::Kind::mlp: return fmt::format("m{}", reader.layer);
    case EdgeReceiver::Kind::logits: break;
  }
  return "logits";
}

std::string EdgeSpace::edge_name(std::int64_t edge) const {
  const Ends both = ends(edge);
  return sender_name(both.sender) + "->" + receiver_name(both.receiver);
}

std::optional<std::int64_t> EdgeSpace::find_sender(std::string_view name) const {
  if (name == "input") return 0;
  EdgeSender writer;
  const bool mlp = take(name, "m");
  if (!mlp && !take(name, "a")) return std::nullopt;
  const auto layer = take_number(name);
  if (!layer || *layer >= layers_) return std::nullopt;
  writer.layer = *layer;
  writer.kind = mlp ? EdgeSender::Kind::mlp : EdgeSender::Kind::head;
  if (!mlp) {
    if (!take(name, ".h")) return std::nullopt;
    const auto head = take_number(name);
    if (!head || *head >= heads_) return std::nullopt;
    writer.head = *head;
  }
  if (!name.empty()) return std::nullopt;
  return index_of(writer);
}

std::optional<std::int64_t> EdgeSpace::find_receiver(std::string_view name) const {
  if (name == "logits") return receivers() - 1;
  EdgeReceiver reader{EdgeReceiver::Kind::mlp, 0, -1};
  const bool mlp = take(name, "m");
  if (!mlp && !take(name, "a")) return std::nullopt;
  const auto layer = take_number(name);
  if (!layer || *layer >= layers_) return std::nullopt;
  reader.layer = *layer;
  if (!mlp) {
    if (!take(name, ".h")) return std::nullopt;
    const auto head = take_number(name);
    if (!head) return std::nullopt;
    reader.head = *head;
    if (name == "<q>")
      reader.kind = EdgeReceiver::Kind::q;
    else if (name == "<k>")
      reader.kind = EdgeReceiver::Kind::k;
    else if (name == "<v>")
      reader.kind = EdgeReceiver::Kind::v;
    else
      return std::nullopt;
    name = {};
    if (*head >= (reader.kind == EdgeReceiver::Kind::q ? heads_ : kv_heads_)) return std::nullopt;
  }
  if (!name.empty()) return std::nullopt;
  return index_of(reader);
}

std::optional<std::int64_t> EdgeSpace::find_edge(std::string_view name) const {
  const std::size_t arrow = name.find("->");
  if (arrow == std::string_view::npos) return std::nullopt;
  const auto sender = find_sender(name.substr(0, arrow));
  const auto receiver = find_receiver(name.substr(arrow + 2));
  if (!sender || !receiver || *sender >= seen_by(*receiver)) return std::nullopt;
  return first_edge(*receiver) + *sender;
}

}  // namespace plumb
