#include "checkpoint/printable.h"

#include <fmt/format.h>

#include <cstddef>

namespace plumb {

std::string printable(std::string_view text) {
  constexpr std::size_t longest = 100;
  constexpr std::size_t kept = 45;
  const auto escape = [](std::string_view part) {
    std::string out;
    for (const char c : part) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte > 0x7e) {
        out += fmt::format("\\x{:02x}", byte);
      } else {
        out.push_back(c);
      }
    }
    return out;
  };
  if (text.size() <= longest) return '"' + escape(text) + '"';
  return '"' + escape(text.substr(0, kept)) + "[...]" + escape(text.substr(text.size() - kept)) +
         '"';
}

}  // namespace plumb
