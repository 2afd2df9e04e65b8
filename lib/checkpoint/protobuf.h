// Protocol buffers' wire format, field by field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// One field of a message; what `bytes` shows lies in the message.
struct ProtoField {
  std::uint64_t number = 0;
  enum class Type { varint, fixed64, bytes, fixed32 } type = Type::varint;
  std::uint64_t value = 0;      ///< of the number types
  std::string_view bytes = {};  ///< of Type::bytes
};

/// Reads a message's fields in order.
class ProtoReader {
 public:
  /// `where` begins every message of an error.
  ProtoReader(std::string_view message, std::string where)
      : message_(message), where_(std::move(where)) {}

  /// The next field; nothing at the end. Throws bad_file on bytes that are no field.
  std::optional<ProtoField> next();

 private:
  std::uint64_t varint();
  std::uint64_t fixed(std::size_t bytes);
  [[noreturn]] void bad(const std::string& message) const;

  std::string_view message_;
  std::string where_;
  std::size_t at_ = 0;
};

}  // namespace plumb
