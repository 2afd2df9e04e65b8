#include "checkpoint/protobuf.h"

#include <fmt/format.h>

#include "plumb/error.h"

namespace plumb {

void ProtoReader::bad(const std::string& message) const {
  throw Error(ErrorKind::bad_file, fmt::format("{}: byte {} {}", where_, at_, message));
}

std::uint64_t ProtoReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (at_ >= message_.size()) bad("ends inside a number");
    const auto byte = static_cast<unsigned char>(message_[at_++]);
    value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  bad("ends a number of more than ten bytes");
}

std::uint64_t ProtoReader::fixed(std::size_t bytes) {
  if (message_.size() - at_ < bytes) bad("ends inside a number");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(message_[at_++])) << (8 * i);
  }
  return value;
}

std::optional<ProtoField> ProtoReader::next() {
  if (at_ >= message_.size()) return std::nullopt;
  const std::uint64_t key = varint();
  ProtoField field;
  field.number = key >> 3U;
  if (field.number == 0) bad("names the field 0");
  switch (key & 7U) {
    case 0: field.value = varint(); break;
    case 1:
      field.type = ProtoField::Type::fixed64;
      field.value = fixed(8);
      break;
    case 2: {
      field.type = ProtoField::Type::bytes;
      const std::uint64_t size = varint();
      if (size > message_.size() - at_) bad(fmt::format("begins {} bytes, but fewer follow", size));
      field.bytes = message_.substr(at_, size);
      at_ += size;
      break;
    }
    case 5:
      field.type = ProtoField::Type::fixed32;
      field.value = fixed(4);
      break;
    default: bad(fmt::format("has the wire type {}, which no SentencePiece model uses", key & 7U));
  }
  return field;
}

}  // namespace plumb
