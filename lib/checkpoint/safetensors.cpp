#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "checkpoint/json.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// The bound of the format's own reader.
constexpr std::uint64_t longest_header = 100'000'000;
// Tensors have few axes; a bound keeps hostile headers small.
constexpr std::size_t most_axes = 16;

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 20> bits_of = {{
    {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"I64", 64},    {"U64", 64},    {"F64", 64},    {"C64", 64},
}};

class Header {
 public:
  explicit Header(const MappedFile& file) : file_(file) {}

  std::vector<StoredTensor> read();

 private:
  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file_.path().string(), message));
  }
  [[noreturn]] void bad(const std::string& tensor, const std::string& message) const {
    bad(fmt::format("tensor {} {}", printable(tensor), message));
  }
  std::string_view header_text();
  StoredTensor tensor(const std::string& name, const Json& entry) const;
  std::uint64_t unsigned_at(const std::string& name, const Json& list, std::size_t index,
                            const char* what) const;
  std::optional<std::uint64_t> bytes_of(std::uint64_t bits,
                                        const std::vector<std::int64_t>& shape) const;
  void check_tiling(const std::vector<StoredTensor>& tensors) const;

  const MappedFile& file_;
  const std::byte* buffer_ = nullptr;
  std::uint64_t buffer_size_ = 0;
};

std::string_view Header::header_text() {
  if (file_.size() < 8) {
    bad(fmt::format("is truncated: {} bytes do not hold the 8-byte header length", file_.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file_.data(), sizeof length);
  if (length > longest_header) {
    bad(fmt::format(
        "header length at byte 0 is {}, more than the {} allowed; is this a safetensors "
        "file?",
        length, longest_header));
  }
  if (length > file_.size() - 8) {
    bad(fmt::format("is truncated: the header should end at byte {}, the file at byte {}",
                    8 + length, file_.size()));
  }
  buffer_ = file_.data() + 8 + length;
  buffer_size_ = file_.size() - 8 - length;
  const std::string_view text = file_.text().substr(8, static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') bad("header at byte 8 does not begin with '{'");
  return text;
}

std::uint64_t Header::unsigned_at(const std::string& name, const Json& list, std::size_t index,
                                  const char* what) const {
  const Json& value = list[index];
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    bad(name, fmt::format("has {}[{}] that is not a count", what, index));
  }
  return value.get<std::uint64_t>();
}

/// Nothing when the product does not fit 64 bits or the last byte is not full.
std::optional<std::uint64_t> Header::bytes_of(std::uint64_t bits,
                                              const std::vector<std::int64_t>& shape) const {
  std::uint64_t total = bits;
  for (const std::int64_t extent : shape) {
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor != 0 && total > std::numeric_limits<std::uint64_t>::max() / factor) return {};
    total *= factor;
  }
  if (total % 8 != 0) return {};
  return total / 8;
}

StoredTensor Header::tensor(const std::string& name, const Json& entry) const {
  if (!entry.is_object()) bad(name, "is not described by an object");
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      bad(name, fmt::format("has an unknown key {}", printable(key)));
    }
  }
  const auto part = [&](const char* key) -> const Json& {
    const auto found = entry.find(key);
    if (found == entry.end()) bad(name, fmt::format("lacks {}", key));
    return *found;
  };
  const Json& dtype = part("dtype");
  const Json& shape = part("shape");
  const Json& offsets = part("data_offsets");
  if (!dtype.is_string()) bad(name, "has a dtype that is not a string");
  if (!shape.is_array()) bad(name, "has a shape that is not a list");
  if (!offsets.is_array() || offsets.size() != 2) bad(name, "needs two data_offsets");
  if (shape.size() > most_axes) {
    bad(name, fmt::format("has {} axes, more than the {} allowed", shape.size(), most_axes));
  }

  StoredTensor tensor;
  tensor.info.name = name;
  tensor.info.dtype = dtype.get<std::string>();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    tensor.info.shape.push_back(static_cast<std::int64_t>(unsigned_at(name, shape, i, "shape")));
  }
  const auto known = std::find_if(bits_of.begin(), bits_of.end(),
                                  [&](const auto& row) { return row.first == tensor.info.dtype; });
  if (known == bits_of.end()) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: tensor {} has the unknown dtype {}", file_.path().string(),
                            printable(name), printable(tensor.info.dtype)));
  }
  const std::uint64_t begin = unsigned_at(name, offsets, 0, "data_offsets");
  const std::uint64_t end = unsigned_at(name, offsets, 1, "data_offsets");
  if (begin > end) {
    bad(name, fmt::format("has data_offsets [{}, {}] that run backwards", begin, end));
  }
  if (end > buffer_size_) {
    bad(name, fmt::format("should end at byte {} of the data, which has {} bytes: truncated?", end,
                          buffer_size_));
  }
  const auto bytes = bytes_of(known->second, tensor.info.shape);
  if (!bytes || *bytes != end - begin) {
    bad(name, fmt::format("of dtype {} and shape {} does not fill its {} bytes", tensor.info.dtype,
                          shape_text(tensor.info.shape), end - begin));
  }
  tensor.info.bytes = *bytes;
  tensor.storage = storage_of(tensor.info.dtype);
  tensor.file = &file_;
  tensor.data = buffer_ + begin;
  return tensor;
}

void Header::check_tiling(const std::vector<StoredTensor>& tensors) const {
  std::vector<const StoredTensor*> order;
  order.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->data, a->info.bytes) < std::pair(b->data, b->info.bytes);
  });
  std::uint64_t covered = 0;
  for (const StoredTensor* tensor : order) {
    const auto begin = static_cast<std::uint64_t>(tensor->data - buffer_);
    if (begin < covered) {
      bad(tensor->info.name,
          fmt::format("begins at byte {} of the data, inside another tensor that "
                      "ends at byte {}",
                      begin, covered));
    }
    if (begin > covered) {
      bad(tensor->info.name,
          fmt::format("begins at byte {} of the data, leaving a gap after byte {}", begin,
                      covered));
    }
    covered += tensor->info.bytes;
  }
  if (covered != buffer_size_) {
    bad(fmt::format("{} bytes follow the last tensor", buffer_size_ - covered));
  }
}

std::vector<StoredTensor> Header::read() {
  const std::string_view text = header_text();
  const Json header =
      parse_json(text, fmt::format("{}: header from byte 8", file_.path().string()), 8);
  std::vector<StoredTensor> tensors;
  tensors.reserve(header.size());
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors.push_back(tensor(name, entry));
      continue;
    }
    if (!entry.is_object()) bad("__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) bad(fmt::format("__metadata__ {} is not a string", printable(key)));
    }
  }
  check_tiling(tensors);
  sort_by_name(tensors, file_.path().string());
  return tensors;
}

}  // namespace

std::vector<StoredTensor> read_safetensors(const MappedFile& file) { return Header(file).read(); }

}  // namespace plumb
