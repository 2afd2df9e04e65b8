#include "checkpoint/charsmap.h"

#include <fmt/format.h>

#include <cstring>

#include "plumb/error.h"

namespace plumb {
namespace {

// A double array's unit: bit 31 marks a value, bit 8 that one follows, bit 9 a wide offset.
bool has_leaf(std::uint32_t unit) { return (unit >> 8U & 1U) != 0; }
std::uint32_t value(std::uint32_t unit) { return unit & 0x7FFFFFFFU; }
std::uint32_t label(std::uint32_t unit) { return unit & 0x800000FFU; }
std::uint32_t offset(std::uint32_t unit) { return unit >> 10U << ((unit & 0x200U) >> 6U); }

}  // namespace

Charsmap::Charsmap(std::string_view blob, const std::string& where) {
  if (blob.empty()) return;
  std::uint32_t size = 0;
  const bool headed = blob.size() >= sizeof size;
  if (headed) std::memcpy(&size, blob.data(), sizeof size);
  if (!headed || size == 0 || size % sizeof(std::uint32_t) != 0 ||
      size > blob.size() - sizeof size) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: the charsmap of {} bytes should hold a table of {} bytes", where,
                            blob.size(), size));
  }
  units_.resize(size / sizeof(std::uint32_t));
  std::memcpy(units_.data(), blob.data() + sizeof size, size);
  texts_ = blob.substr(sizeof size + size);
}

std::optional<Charsmap::Rule> Charsmap::find(std::string_view text, bool longest) const {
  std::optional<Rule> best;
  if (units_.empty()) return best;
  std::size_t node = offset(units_[0]);
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    node ^= byte;
    // A zero byte is no label: the value lies there.
    if (node >= units_.size() || byte == 0 || label(units_[node]) != byte) break;
    const bool leaf = has_leaf(units_[node]);
    node ^= offset(units_[node]);
    if (!leaf) continue;
    if (node >= units_.size()) break;
    const std::size_t begin = value(units_[node]);
    if (begin >= texts_.size()) continue;
    const std::string_view rest = std::string_view(texts_).substr(begin);
    best = Rule{at + 1, rest.substr(0, rest.find('\0'))};
    if (!longest) break;
  }
  return best;
}

}  // namespace plumb
