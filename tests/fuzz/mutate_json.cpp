#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "fuzz/mutators.h"

namespace plumb::fuzz {
namespace {

// Keeps the order of the keys, so that a change stays a small one.
using Json = nlohmann::ordered_json;

constexpr std::size_t longest_string = 256;

Json edge_value(const Mutation& mutation) {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           false,
                                           0,
                                           1,
                                           2,
                                           -1,
                                           0.0,
                                           0.5,
                                           -0.0,
                                           1e-320,
                                           1e308,
                                           -1e308,
                                           1048575,
                                           1048576,
                                           1 << 30,
                                           1.0e12,
                                           INT32_MAX,
                                           UINT32_MAX,
                                           INT64_MAX,
                                           INT64_MIN,
                                           16,
                                           255,
                                           100000,
                                           UINT64_MAX,
                                           "",
                                           "a",
                                           " ",
                                           "\u2581",
                                           "none",
                                           Json::array(),
                                           Json::object()};
  return values[mutation.below(values.size())];
}

/// Pieces of documents seen so far: what one family or tokenizer has, others get.
class Pool {
 public:
  void offer(const Json& piece, const Mutation& mutation) {
    constexpr std::size_t most = 512;
    constexpr std::size_t longest = 2048;
    if (piece.dump(-1, ' ', false, Json::error_handler_t::replace).size() > longest) return;
    if (pieces_.size() < most) {
      pieces_.push_back(piece);
    } else {
      pieces_[mutation.below(most)] = piece;
    }
  }
  Json any(const Mutation& mutation) const {
    return pieces_.empty() ? Json() : pieces_[mutation.below(pieces_.size())];
  }

 private:
  std::vector<Json> pieces_;
};

/// A container, and the place in it that is to change.
struct Place {
  Json* holder = nullptr;
  std::size_t index = 0;
};

Json& value_at(const Place& place) {
  auto at = place.holder->begin();
  std::advance(at, static_cast<std::ptrdiff_t>(place.index));
  return *at;
}

/// Down from the root, so that a vocabulary does not outweigh everything else.
Place some_place(Json& root, const Mutation& mutation) {
  Place place{&root, mutation.below(root.size())};
  while (!mutation.one_in(4)) {
    Json& inner = value_at(place);
    if (!inner.is_structured() || inner.empty()) break;
    place = {&inner, mutation.below(inner.size())};
  }
  return place;
}

void change_number(Json& value, const Mutation& mutation) {
  if (value.is_number_integer()) {
    const auto now = value.get<std::int64_t>();
    const auto wrapped = static_cast<std::uint64_t>(now);
    switch (mutation.below(6)) {
      case 0: value = static_cast<std::int64_t>(wrapped + 1); break;
      case 1: value = static_cast<std::int64_t>(wrapped - 1); break;
      case 2: value = static_cast<std::int64_t>(wrapped * 2); break;
      case 3: value = now / 2; break;
      case 4: value = static_cast<double>(now) + 0.5; break;
      default: value = static_cast<std::int64_t>(mutation.below(40)); break;
    }
  } else {
    const std::array<double, 5> factors = {-1, 0, 2, 1e-3, 1e10};
    value = value.get<double>() * factors[mutation.below(factors.size())];
  }
}

/// Puts an element into an array or an entry into an object.
void insert(Json& holder, const Json& value, const Mutation& mutation) {
  if (holder.is_array()) {
    const std::size_t copies = mutation.one_in(8) ? 2 + mutation.below(40) : 1;
    for (std::size_t i = 0; i < copies; ++i) {
      holder.insert(holder.begin() + static_cast<std::ptrdiff_t>(mutation.below(holder.size() + 1)),
                    value);
    }
  } else {
    const Json key = mutation.one_in(2) ? Json() : value;
    holder[key.is_string() ? key.get<std::string>() : mutation.bytes("", 16)] = value;
  }
}

void rename(const Place& place, const Mutation& mutation, const Pool& pool) {
  if (!place.holder->is_object()) return;
  Json renamed = Json::object();
  std::size_t at = 0;
  for (const auto& [key, value] : place.holder->items()) {
    std::string name = key;
    if (at++ == place.index) {
      const Json other = pool.any(mutation);
      name = other.is_string() && mutation.one_in(2) ? other.get<std::string>()
                                                     : mutation.bytes(key, longest_string);
    }
    renamed[name] = value;
  }
  *place.holder = std::move(renamed);
}

void change(Json& root, const Mutation& mutation, Pool& pool) {
  const Place place = some_place(root, mutation);
  Json& value = value_at(place);
  switch (mutation.below(10)) {
    case 0: value = edge_value(mutation); return;
    case 1: value = pool.any(mutation); return;
    case 2: pool.offer(value, mutation); return insert(*place.holder, pool.any(mutation), mutation);
    case 3: return insert(*place.holder, Json(value), mutation);
    case 4: return rename(place, mutation, pool);
    case 5: {
      auto at = place.holder->begin();
      std::advance(at, static_cast<std::ptrdiff_t>(place.index));
      place.holder->erase(at);
      return;
    }
    case 6: {
      const Place other{place.holder, mutation.below(place.holder->size())};
      if (other.index != place.index) std::swap(value, value_at(other));
      return;
    }
    default: break;
  }
  if (value.is_string()) {
    value = mutation.bytes(value.get<std::string>(), longest_string);
  } else if (value.is_number()) {
    change_number(value, mutation);
  } else if (value.is_boolean()) {
    value = !value.get<bool>();
  } else if (value.is_structured()) {
    insert(value, pool.any(mutation), mutation);
  } else {
    value = edge_value(mutation);
  }
}

}  // namespace

std::string mutate_json(std::string_view input, const Mutation& mutation) {
  static Pool pool;
  constexpr std::size_t growth = 64;
  if (mutation.one_in(5)) return mutation.bytes(input, input.size() + growth);
  Json document = Json::parse(input, nullptr, false);
  if (document.is_discarded() || !document.is_structured() || document.empty()) {
    return mutation.bytes(input, input.size() + growth);
  }
  pool.offer(value_at(some_place(document, mutation)), mutation);
  const std::size_t changes = 1 + mutation.below(3);
  for (std::size_t i = 0; i < changes && document.is_structured() && !document.empty(); ++i) {
    change(document, mutation, pool);
  }
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string mutate_jsons(std::string_view input, const Mutation& mutation) {
  const std::size_t end = input.find('\0');
  if (end == std::string_view::npos) {
    if (!mutation.one_in(16)) return mutate_json(input, mutation);
    return std::string(input) + '\0' + R"({"bos_token":"a","add_bos_token":true})";
  }
  const std::string_view front = input.substr(0, end);
  const std::string_view back = input.substr(end + 1);
  if (mutation.one_in(3)) return std::string(front) + '\0' + mutate_json(back, mutation);
  return mutate_json(front, mutation) + '\0' + std::string(back);
}

std::string mutate_json_lines(std::string_view input, const Mutation& mutation) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at <= input.size();) {
    const std::size_t end = std::min(input.find('\n', at), input.size());
    lines.emplace_back(input.substr(at, end - at));
    at = end + 1;
  }
  const std::size_t chosen = mutation.below(lines.size());
  if (mutation.one_in(8)) {
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(mutation.below(lines.size() + 1)),
                 std::string(lines[chosen]));
  } else {
    lines[chosen] = mutate_json(lines[chosen], mutation);
  }
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace plumb::fuzz
