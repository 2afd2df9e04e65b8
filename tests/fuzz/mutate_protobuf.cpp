#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "fuzz/mutators.h"

namespace plumb::fuzz {
namespace {

struct Field {
  std::uint64_t key = 0;     ///< number and wire type
  std::string payload = {};  ///< without the length of a text or message

  unsigned wire() const { return static_cast<unsigned>(key & 7U); }
};

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  return std::nullopt;
}

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7U) out += static_cast<char>(value | 0x80U);
  return out + static_cast<char>(value);
}

std::optional<std::vector<Field>> parse(std::string_view bytes) {
  std::vector<Field> fields;
  while (!bytes.empty()) {
    const auto key = take_varint(bytes);
    if (!key) return std::nullopt;
    Field field{*key};
    std::uint64_t size = field.wire() == 1 ? 8 : 4;
    if (field.wire() == 0) {
      const auto value = take_varint(bytes);
      if (!value) return std::nullopt;
      field.payload = varint(*value);
      fields.push_back(field);
      continue;
    }
    if (field.wire() == 2) {
      const auto length = take_varint(bytes);
      if (!length) return std::nullopt;
      size = *length;
    } else if (field.wire() != 1 && field.wire() != 5) {
      return std::nullopt;
    }
    if (size > bytes.size()) return std::nullopt;
    field.payload = bytes.substr(0, size);
    bytes.remove_prefix(size);
    fields.push_back(field);
  }
  return fields;
}

std::string write(const std::vector<Field>& fields) {
  std::string out;
  for (const Field& field : fields) {
    out += varint(field.key);
    if (field.wire() == 2) out += varint(field.payload.size());
    out += field.payload;
  }
  return out;
}

std::string change(std::string_view message, const Mutation& mutation, int depth);

void change_field(std::vector<Field>& fields, const Mutation& mutation, int depth) {
  // The fields behind the many pieces as often as one of these.
  const bool late = mutation.one_in(3);
  const std::size_t reach = late ? std::min<std::size_t>(fields.size(), 8) : fields.size();
  const std::size_t at = fields.size() - 1 - mutation.below(reach);
  Field& field = fields[at];
  switch (mutation.below(8)) {
    case 0: fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(at)); return;
    case 1: fields.insert(fields.begin() + static_cast<std::ptrdiff_t>(at), Field(field)); return;
    case 2: field.key = (mutation.below(50) << 3U) | field.wire(); return;
    case 3: std::swap(field.payload, fields[mutation.below(fields.size())].payload); return;
    default: break;
  }
  if (field.wire() == 0) {
    field.payload =
        varint(mutation.one_in(4) ? std::uint64_t{1} << mutation.below(64) : mutation.below(8));
  } else if (field.wire() == 2) {
    field.payload = change(field.payload, mutation, depth + 1);
  } else {
    const std::size_t size = field.payload.size();
    field.payload = mutation.bytes(field.payload, size);
    field.payload.resize(size, '\0');
  }
}

std::string change(std::string_view message, const Mutation& mutation, int depth) {
  constexpr int deepest = 2;
  auto fields = depth < deepest && !mutation.one_in(8) ? parse(message) : std::nullopt;
  if (!fields || fields->empty()) return mutation.bytes(message, message.size() + 32);
  change_field(*fields, mutation, depth);
  return write(*fields);
}

}  // namespace

std::string mutate_protobuf(std::string_view input, const Mutation& mutation) {
  std::string out(input);
  const std::size_t changes = 1 + mutation.below(3);
  for (std::size_t i = 0; i < changes; ++i) out = change(out, mutation, 0);
  return out;
}

}  // namespace plumb::fuzz
