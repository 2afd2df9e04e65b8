#include "checkpoint/token_model.h"

#include <fmt/format.h>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {

Fallback::Fallback(const TokenizerSpec& spec, const TokenIds& ids) : where(spec.where) {
  if (spec.unknown) unknown = id_of(*spec.unknown, "unk_token", spec, ids);
  if (!spec.byte_fallback) return;
  for (std::size_t byte = 0; byte < byte_tokens.size(); ++byte) {
    byte_tokens[byte] =
        id_of(byte_token(static_cast<unsigned char>(byte)), "byte fallback", spec, ids);
  }
  bytes = true;
}

void Fallback::append(std::string_view part, std::vector<Symbol>& out) const {
  if (bytes) {
    for (const char c : part) out.push_back({byte_tokens[static_cast<unsigned char>(c)], 1});
    return;
  }
  if (unknown == no_token) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("the text holds {}, for which the tokenizer of {} has no token; leave "
                            "it out",
                            part.size() == 1 ? fmt::format("the byte 0x{:02x}",
                                                           static_cast<unsigned char>(part.front()))
                                             : printable(part),
                            where));
  }
  out.push_back({unknown, static_cast<std::uint32_t>(part.size())});
}

std::int32_t id_of(const std::string& token, const std::string& what, const TokenizerSpec& spec,
                   const TokenIds& ids) {
  const auto found = ids.find(token);
  if (found == ids.end()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {} names the token {}, which is not in the vocabulary", spec.where,
                            what, printable(token)));
  }
  return found->second;
}

std::string byte_token(unsigned char byte) { return fmt::format("<0x{:02X}>", byte); }

std::optional<char> byte_named(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : token.substr(3, 2)) {
    const auto digit = std::string_view("0123456789ABCDEFabcdef").find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(digit < 16 ? digit : digit - 6);
  }
  return static_cast<char>(value);
}

}  // namespace plumb
