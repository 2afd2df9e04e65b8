#include "report/html_text.h"

#include <algorithm>
#include <cstdint>

#include "checkpoint/utf8.h"

namespace plumb::report {

std::string html(std::string_view text, std::size_t most) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (at >= most) return out + "…";
    const CodePoint point = code_point(text, at);
    const bool control = (point.value < 0x20 && point.value != '\n' && point.value != '\t') ||
                         (point.value >= 0x7F && point.value < 0xA0);
    if (point.bytes == 0 || control) {
      out += "\uFFFD";
    } else {
      switch (point.value) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default: out += text.substr(at, point.bytes);
      }
    }
    at += point.bytes == 0 ? 1 : point.bytes;
  }
  return out;
}

std::string script_json(const Json& value) {
  // An HTML parser ends a script at "</script", and "<!--" changes how it reads on.
  std::string out;
  for (const char c : dump(value)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string base64(std::span<const unsigned char> bytes) {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8U | (i < count ? std::uint32_t{bytes[at + i]} : 0U);
    for (std::size_t i = 0; i < 4; ++i)
      out += i <= count ? digits[group >> (18U - 6U * i) & 0x3FU] : '=';
  }
  return out;
}

}  // namespace plumb::report
