#include "checkpoint/byte_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "checkpoint/utf8.h"
#include "plumb/error.h"

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

std::string to_nfc(std::string_view text) {
  // All characters below U+0300 are in form C already, and their lead bytes lie below 0xCC.
  const auto beyond = [](char c) { return static_cast<unsigned char>(c) >= 0xCC; };
  if (std::none_of(text.begin(), text.end(), beyond)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for_each_utf8_stretch(text, [&](std::string_view part, bool well_formed) {
    if (!well_formed) {
      out += part;
      return;
    }
    utf8proc_uint8_t* composed = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()),
                     static_cast<utf8proc_ssize_t>(part.size()), &composed,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(composed, &std::free);
    if (size < 0) {
      throw Error(ErrorKind::too_large, fmt::format("cannot normalise a text of {} bytes: {}",
                                                    part.size(), utf8proc_errmsg(size)));
    }
    out.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(size));
  });
  return out;
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
