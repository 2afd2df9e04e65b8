#include "checkpoint/byte_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "checkpoint/utf8.h"

namespace plumb {
namespace {

/// The byte-level alphabet of GPT-2: printable Latin-1 bytes stand for themselves, the others, in
/// order, for U+0100 and up. The byte that `point` stands for, or -1.
int byte_of(std::uint32_t point) {
  static const std::array<int, 0x200> table = [] {
    std::array<int, 0x200> out;
    out.fill(-1);
    std::uint32_t next = 0x100;
    for (std::uint32_t byte = 0; byte < 0x100; ++byte) {
      const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      out[itself ? byte : next++] = static_cast<int>(byte);
    }
    return out;
  }();
  return point < table.size() ? table[point] : -1;
}

}  // namespace

std::optional<std::string> bytes_of(std::string_view token) {
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint point = code_point(token, at);
    const int byte = point.bytes == 0 ? -1 : byte_of(point.value);
    if (byte < 0) return std::nullopt;
    out += static_cast<char>(byte);
    at += point.bytes;
  }
  return out;
}

std::string in_byte_alphabet(char byte) {
  static const std::array<std::string, 0x100> letters = [] {
    std::array<std::string, 0x100> out;
    for (std::uint32_t point = 0; point < 0x200; ++point) {
      const int stands_for = byte_of(point);
      if (stands_for < 0) continue;
      std::string& letter = out[static_cast<std::size_t>(stands_for)];
      if (point >= 0x80) letter += static_cast<char>(0xC0U | point >> 6U);
      letter += static_cast<char>(point >= 0x80 ? 0x80U | (point & 0x3FU) : point);
    }
    return out;
  }();
  return letters[static_cast<unsigned char>(byte)];
}

std::string legible(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const CodePoint point = code_point(bytes, at);
    const std::size_t length = std::max<std::size_t>(point.bytes, 1);
    const utf8proc_category_t category =
        utf8proc_category(static_cast<utf8proc_int32_t>(point.value));
    const bool control = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
    if (bytes[at] == '\n') {
      out += "\\n";
    } else if (bytes[at] == '\t') {
      out += "\\t";
    } else if (point.bytes == 0 || control) {
      for (std::size_t i = 0; i < length; ++i) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes[at + i]));
      }
    } else {
      out += bytes.substr(at, length);
    }
    at += length;
  }
  return out;
}

}  // namespace plumb
