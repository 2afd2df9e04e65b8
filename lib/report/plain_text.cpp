#include "plumb/plain_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "checkpoint/utf8.h"

namespace plumb {
namespace {

constexpr std::uint32_t lowest_block = 0x2581;  // one eighth
constexpr std::uint32_t full_block = 0x2588;
constexpr std::array<std::pair<std::uint32_t, char>, 12> likenesses = {{{0x00B7, '.'},
                                                                        {0x00D7, 'x'},
                                                                        {0x2013, '-'},
                                                                        {0x2014, '-'},
                                                                        {0x2018, '\''},
                                                                        {0x2019, '\''},
                                                                        {0x201C, '"'},
                                                                        {0x201D, '"'},
                                                                        {0x2026, '~'},
                                                                        {0x2500, '-'},
                                                                        {0x2212, '-'},
                                                                        {0x00A0, ' '}}};

char likeness(std::uint32_t point) {
  if (point >= lowest_block && point <= full_block)
    return static_cast<char>('1' + (point - lowest_block));
  const auto* const found =
      std::ranges::find_if(likenesses, [&](const auto& pair) { return pair.first == point; });
  return found == likenesses.end() ? '?' : found->second;
}

}  // namespace

std::string plain_text(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point(text, at);
    plain += point.bytes == 1 ? text[at] : point.bytes == 0 ? '?' : likeness(point.value);
    at += std::max<std::size_t>(point.bytes, 1);
  }
  return plain;
}

bool locale_has_utf8(const char* lc_all, const char* lc_ctype, const char* lang) {
  std::string name;
  for (const char* variable : {lc_all, lc_ctype, lang}) {
    if (variable == nullptr || *variable == '\0') continue;
    name = variable;
    break;
  }
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return name.find("utf-8") != std::string::npos || name.find("utf8") != std::string::npos;
}

}  // namespace plumb
