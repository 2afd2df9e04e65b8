#include "checkpoint/gguf_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::uint64_t longest_name = 65535;
constexpr std::uint32_t most_axes = 4;
constexpr std::uint32_t most_nesting = 8;
constexpr std::uint64_t default_alignment = 32;
// The smallest entries: a key of no byte, a type and one byte; a name of no byte, one axis.
constexpr std::uint64_t least_metadata_bytes = 8 + 4 + 1;
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;

struct TensorType {
  std::uint32_t id;
  std::string_view name;
  std::uint64_t elements;  ///< in a block
  std::uint64_t bytes;     ///< of a block
};

// Types as numbered by GGML; those that plumb cannot read are listed so that the file's layout can
// be checked and its tensors named.
constexpr std::array<TensorType, 30> tensor_types = {{
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},
    {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},
    {25, "I16", 1, 2},        {26, "I32", 1, 4},        {27, "I64", 1, 8},
    {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},
    {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
}};

/// A reading position that never leaves the file.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file_.path().string(), message));
  }
  [[noreturn]] void unsupported(const std::string& message) const {
    throw Error(ErrorKind::unsupported, fmt::format("{}: {}", file_.path().string(), message));
  }

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return file_.size() - position_; }

  const std::byte* take(std::uint64_t bytes, std::string_view what) {
    if (bytes > remaining()) {
      bad(fmt::format("is truncated: {} at byte {} needs {} bytes, {} are left", what, position_,
                      bytes, remaining()));
    }
    const std::byte* data = file_.data() + position_;
    position_ += bytes;
    return data;
  }

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what), sizeof value);
    return value;
  }

  std::string_view text(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const std::byte* bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length)};
  }

  std::string name(std::string_view what) {
    const std::uint64_t at = position_;
    const std::string_view name = text(what);
    if (name.size() > longest_name) {
      bad(fmt::format("{} at byte {} has {} bytes, more than the {} allowed", what, at, name.size(),
                      longest_name));
    }
    return std::string(name);
  }

 private:
  const MappedFile& file_;
  std::uint64_t position_ = 0;
};

class Parser {
 public:
  explicit Parser(const MappedFile& file) : file_(file), cursor_(file) {}

  GgufHeader parse() {
    read_preamble();
    read_metadata();
    read_tensors();
    return std::move(header_);
  }

 private:
  void read_preamble();
  void read_metadata();
  void read_tensors();
  GgufType type(std::string_view key);
  GgufValue value(std::string_view key);
  void skip_elements(const GgufValue& array, std::string_view key, std::uint32_t depth);
  std::uint64_t alignment() const;
  std::uint64_t tensor_entry();
  void place(const std::vector<std::uint64_t>& offsets);

  const MappedFile& file_;
  Cursor cursor_;
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

/// Reads one tensor's description into the header; returns its offset in the data.
std::uint64_t Parser::tensor_entry() {
  StoredTensor tensor;
  tensor.info.name = cursor_.name("a tensor name");
  const std::string shown = printable(tensor.info.name);
  const auto axes = cursor_.number<std::uint32_t>("a tensor's axis count");
  if (axes < 1 || axes > most_axes) {
    cursor_.bad(fmt::format("tensor {} has {} axes; 1 to {} are allowed", shown, axes, most_axes));
  }
  std::uint64_t elements = 1;
  for (std::uint32_t axis = 0; axis < axes; ++axis) {
    const auto extent = cursor_.number<std::uint64_t>("a tensor's extent");
    if (extent < 1 || extent > static_cast<std::uint64_t>(INT64_MAX) / elements) {
      cursor_.bad(fmt::format("tensor {} has extent {} on axis {}: not a possible size", shown,
                              extent, axis));
    }
    elements *= extent;
    tensor.info.shape.push_back(static_cast<std::int64_t>(extent));
  }
  const auto row = static_cast<std::uint64_t>(tensor.info.shape.front());
  // The file names the fastest axis first.
  std::reverse(tensor.info.shape.begin(), tensor.info.shape.end());

  const auto id = cursor_.number<std::uint32_t>("a tensor's type");
  const auto type = std::find_if(tensor_types.begin(), tensor_types.end(),
                                 [&](const TensorType& known) { return known.id == id; });
  if (type == tensor_types.end()) {
    cursor_.unsupported(fmt::format("tensor {} has the unknown type {}", shown, id));
  }
  if (row % type->elements != 0) {
    cursor_.bad(fmt::format("tensor {} of type {} has rows of {} elements, not a multiple of {}",
                            shown, type->name, row, type->elements));
  }
  const std::uint64_t blocks = elements / type->elements;
  if (blocks > std::numeric_limits<std::uint64_t>::max() / type->bytes) {
    cursor_.bad(fmt::format("tensor {} is larger than any file", shown));
  }
  tensor.info.dtype = std::string(type->name);
  tensor.info.bytes = blocks * type->bytes;
  tensor.storage = storage_of(tensor.info.dtype);
  tensor.file = &file_;
  const auto offset = cursor_.number<std::uint64_t>("a tensor's offset");
  header_.tensors.push_back(std::move(tensor));
  return offset;
}

/// Turns offsets into pointers, after checking bounds, alignment and overlap.
void Parser::place(const std::vector<std::uint64_t>& offsets) {
  const std::uint64_t step = alignment();
  const std::uint64_t start = (cursor_.position() + step - 1) / step * step;
  if (header_.tensors.empty()) return;
  if (start > file_.size()) {
    cursor_.bad(fmt::format("is truncated: the data should begin at byte {}, the file has {}",
                            start, file_.size()));
  }
  const std::uint64_t available = file_.size() - start;
  std::vector<std::size_t> order(offsets.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    StoredTensor& tensor = header_.tensors[i];
    const std::string shown = printable(tensor.info.name);
    if (offsets[i] % step != 0) {
      cursor_.bad(fmt::format("tensor {} begins at byte {} of the data, not a multiple of {}",
                              shown, offsets[i], step));
    }
    if (offsets[i] > available || tensor.info.bytes > available - offsets[i]) {
      cursor_.bad(
          fmt::format("tensor {} needs {} bytes from byte {} of the data, which has {}: "
                      "truncated?",
                      shown, tensor.info.bytes, offsets[i], available));
    }
    tensor.data = file_.data() + start + offsets[i];
  }
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return offsets[a] < offsets[b]; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const StoredTensor& before = header_.tensors[order[i - 1]];
    if (offsets[order[i - 1]] + before.info.bytes > offsets[order[i]]) {
      cursor_.bad(fmt::format("tensors {} and {} overlap at byte {} of the data",
                              printable(before.info.name),
                              printable(header_.tensors[order[i]].info.name), offsets[order[i]]));
    }
  }
}

void Parser::read_tensors() {
  std::vector<std::uint64_t> offsets;
  offsets.reserve(static_cast<std::size_t>(tensor_count_));
  header_.tensors.reserve(static_cast<std::size_t>(tensor_count_));
  for (std::uint64_t i = 0; i < tensor_count_; ++i) offsets.push_back(tensor_entry());
  place(offsets);
  sort_by_name(header_.tensors, file_.path().string());
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
