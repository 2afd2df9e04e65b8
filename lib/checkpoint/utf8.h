// Well-formed UTF-8, code point by code point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plumb {

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 0;  ///< 0: what stands there is not well-formed UTF-8
};

/// The code point that begins at `at` (inside `text`). Overlong forms, surrogates, values above
/// U+10FFFF and sequences cut short are not well formed (Unicode 15, table 3-7).
inline CodePoint code_point(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t offset) -> std::uint32_t {
    return at + offset < text.size() ? static_cast<unsigned char>(text[at + offset]) : 0U;
  };
  const auto continues = [&](std::size_t offset) { return (byte(offset) & 0xC0U) == 0x80U; };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead <= 0xDF && continues(1)) {
    return {(lead & 0x1FU) << 6 | (byte(1) & 0x3FU), 2};
  }
  if ((lead & 0xF0U) == 0xE0 && continues(1) && continues(2)) {
    const std::uint32_t value = (lead & 0x0FU) << 12 | (byte(1) & 0x3FU) << 6 | (byte(2) & 0x3FU);
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    return value >= 0x800 && !surrogate ? CodePoint{value, 3} : CodePoint{};
  }
  if (lead >= 0xF0 && lead <= 0xF4 && continues(1) && continues(2) && continues(3)) {
    const std::uint32_t value =
        (lead & 0x07U) << 18 | (byte(1) & 0x3FU) << 12 | (byte(2) & 0x3FU) << 6 | (byte(3) & 0x3FU);
    return value >= 0x10000 && value <= 0x10FFFF ? CodePoint{value, 4} : CodePoint{};
  }
  return {};
}

/// Cuts `text` into its longest well-formed stretches and single ill-formed bytes, and calls
/// `sink(part, well_formed)` for each in order.
template <typename Sink>
void for_each_utf8_stretch(std::string_view text, Sink&& sink) {
  std::size_t begin = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = code_point(text, at).bytes;
    if (bytes != 0) {
      at += bytes;
      continue;
    }
    if (at > begin) sink(text.substr(begin, at - begin), true);
    sink(text.substr(at, 1), false);
    begin = ++at;
  }
  if (at > begin) sink(text.substr(begin, at - begin), true);
}

}  // namespace plumb
