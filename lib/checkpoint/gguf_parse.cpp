#include "checkpoint/gguf_parse.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <utility>

#include "checkpoint/gguf_cursor.h"
#include "checkpoint/gguf_tensors.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::uint32_t most_nesting = 8;
constexpr std::uint64_t default_alignment = 32;
// The smallest entries: a key of no byte, a type and one byte; a name of no byte, one axis.
constexpr std::uint64_t least_metadata_bytes = 8 + 4 + 1;
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;

class Parser {
 public:
  explicit Parser(const MappedFile& file) : file_(file), cursor_(file) {}

  GgufHeader parse() {
    read_preamble();
    read_metadata();
    header_.tensors = read_gguf_tensors(cursor_, tensor_count_, alignment());
    return std::move(header_);
  }

 private:
  void read_preamble();
  void read_metadata();
  GgufType type(std::string_view key);
  GgufValue value(std::string_view key);
  void skip_elements(const GgufValue& array, std::string_view key, std::uint32_t depth);
  std::uint64_t alignment() const;

  const MappedFile& file_;
  GgufCursor cursor_;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t metadata_count_ = 0;
  GgufHeader header_;
};

void Parser::read_preamble() {
  if (cursor_.number<std::uint32_t>("the magic number") != magic) {
    cursor_.bad("does not begin with \"GGUF\"; is this a GGUF file?");
  }
  const auto version = cursor_.number<std::uint32_t>("the version");
  if (version == 0x02000000 || version == 0x03000000) {
    cursor_.unsupported("is a big-endian GGUF file; plumb reads little-endian ones");
  }
  if (version != 2 && version != 3) {
    cursor_.unsupported(fmt::format("is GGUF version {}; plumb reads versions 2 and 3", version));
  }
  tensor_count_ = cursor_.number<std::uint64_t>("the tensor count");
  metadata_count_ = cursor_.number<std::uint64_t>("the metadata count");
  if (metadata_count_ > cursor_.remaining() / least_metadata_bytes) {
    cursor_.bad(fmt::format("metadata count {} at byte 16 cannot fit the file's {} bytes",
                            metadata_count_, file_.size()));
  }
  if (tensor_count_ > cursor_.remaining() / least_tensor_bytes) {
    cursor_.bad(fmt::format("tensor count {} at byte 8 cannot fit the file's {} bytes",
                            tensor_count_, file_.size()));
  }
}

GgufType Parser::type(std::string_view key) {
  const std::uint64_t at = cursor_.position();
  const auto id = cursor_.number<std::uint32_t>("a value type");
  if (id > static_cast<std::uint32_t>(GgufType::f64)) {
    cursor_.bad(
        fmt::format("key {} has the unknown value type {} at byte {}", printable(key), id, at));
  }
  return static_cast<GgufType>(id);
}

void Parser::skip_elements(const GgufValue& array, std::string_view key, std::uint32_t depth) {
  if (const std::uint64_t size = scalar_bytes(array.element); size > 0) {
    if (array.count > cursor_.remaining() / size) {
      cursor_.bad(
          fmt::format("is truncated: key {} announces {} elements at byte {}, {} bytes are left",
                      printable(key), array.count, cursor_.position(), cursor_.remaining()));
    }
    cursor_.take(array.count * size, "an array");
    return;
  }
  if (array.count > cursor_.remaining() / 8) {
    cursor_.bad(
        fmt::format("is truncated: key {} announces {} elements at byte {}, {} bytes are left",
                    printable(key), array.count, cursor_.position(), cursor_.remaining()));
  }
  if (depth >= most_nesting) {
    cursor_.bad(fmt::format("key {} nests arrays deeper than {}", printable(key), most_nesting));
  }
  for (std::uint64_t i = 0; i < array.count; ++i) {
    if (array.element == GgufType::string) {
      cursor_.text("a string of an array");
      continue;
    }
    GgufValue inner;
    inner.type = GgufType::array;
    inner.element = type(key);
    inner.count = cursor_.number<std::uint64_t>("an array's length");
    skip_elements(inner, key, depth + 1);
  }
}

GgufValue Parser::value(std::string_view key) {
  GgufValue value;
  value.type = type(key);
  if (value.type == GgufType::string) {
    const std::string_view text = cursor_.text("a string");
    value.count = text.size();
    value.data = reinterpret_cast<const std::byte*>(text.data());
  } else if (value.type == GgufType::array) {
    value.element = type(key);
    value.count = cursor_.number<std::uint64_t>("an array's length");
    value.data = file_.data() + cursor_.position();
    skip_elements(value, key, 0);
  } else {
    value.data = cursor_.take(scalar_bytes(value.type), "a value");
    if (value.type == GgufType::boolean && std::to_integer<int>(*value.data) > 1) {
      cursor_.bad(fmt::format("key {} is a boolean that is neither 0 nor 1", printable(key)));
    }
  }
  return value;
}

void Parser::read_metadata() {
  for (std::uint64_t i = 0; i < metadata_count_; ++i) {
    const std::string key = cursor_.name("a metadata key");
    const GgufValue read = value(key);
    if (!header_.metadata.emplace(key, read).second) {
      cursor_.bad(fmt::format("key {} appears twice", printable(key)));
    }
  }
}

std::uint64_t Parser::alignment() const {
  const auto found = header_.metadata.find("general.alignment");
  if (found == header_.metadata.end()) return default_alignment;
  if (found->second.type != GgufType::u32) cursor_.bad("general.alignment should be a u32");
  std::uint32_t value = 0;
  std::memcpy(&value, found->second.data, sizeof value);
  if (!std::has_single_bit(value)) {
    cursor_.bad(fmt::format("general.alignment is {}, which is not a power of two", value));
  }
  return value;
}

}  // namespace

std::size_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean: return 1;
    case GgufType::u16:
    case GgufType::i16: return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32: return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64: return 8;
    case GgufType::string:
    case GgufType::array: return 0;
  }
  return 0;
}

GgufHeader parse_gguf(const MappedFile& file) { return Parser(file).parse(); }

}  // namespace plumb
