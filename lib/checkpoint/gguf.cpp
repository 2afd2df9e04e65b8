#include "checkpoint/gguf.h"

#include <fmt/format.h>

#include <utility>

#include "checkpoint/gguf_parse.h"
#include "checkpoint/numbers.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

/// Nothing for values that are no integers or exceed int64.
std::optional<std::int64_t> integer_at(GgufType type, const std::byte* data) {
  switch (type) {
    case GgufType::u8: return load<std::uint8_t>(data);
    case GgufType::i8: return load<std::int8_t>(data);
    case GgufType::u16: return load<std::uint16_t>(data);
    case GgufType::i16: return load<std::int16_t>(data);
    case GgufType::u32: return load<std::uint32_t>(data);
    case GgufType::i32: return load<std::int32_t>(data);
    case GgufType::i64: return load<std::int64_t>(data);
    case GgufType::u64: {
      const auto value = load<std::uint64_t>(data);
      if (value > static_cast<std::uint64_t>(INT64_MAX)) return {};
      return static_cast<std::int64_t>(value);
    }
    case GgufType::f32:
    case GgufType::f64:
    case GgufType::boolean:
    case GgufType::string:
    case GgufType::array: return {};
  }
  return {};
}

std::optional<double> number_at(GgufType type, const std::byte* data) {
  if (type == GgufType::f32) return static_cast<double>(load<float>(data));
  if (type == GgufType::f64) return load<double>(data);
  if (const auto integer = integer_at(type, data)) return static_cast<double>(*integer);
  return {};
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path)
    : file_(std::make_shared<const MappedFile>(path)) {
  GgufHeader header = parse_gguf(*file_);
  metadata_ = std::move(header.metadata);
  tensors_ = std::move(header.tensors);
}

bool GgufFile::has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }

const GgufValue& GgufFile::needed(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: metadata key {} is missing",
                                                 file_->path().string(), printable(key)));
  }
  return found->second;
}

const GgufValue& GgufFile::array(std::string_view key) const {
  const GgufValue& value = needed(key);
  if (value.type != GgufType::array) wrong(key, "an array");
  return value;
}

void GgufFile::wrong(std::string_view key, const std::string& expected) const {
  throw Error(ErrorKind::bad_file, fmt::format("{}: metadata key {} should be {}",
                                               file_->path().string(), printable(key), expected));
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t low, std::int64_t high) const {
  const GgufValue& value = needed(key);
  const auto integer = integer_at(value.type, value.data);
  if (!integer || *integer < low || *integer > high) {
    wrong(key, fmt::format("an integer from {} to {}", low, high) +
                   (integer ? fmt::format(", but is {}", *integer) : std::string()));
  }
  return *integer;
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t low, std::int64_t high,
                               std::int64_t fallback) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& value = needed(key);
  const auto number = number_at(value.type, value.data);
  if (!number) wrong(key, "a number");
  return *number;
}

double GgufFile::number(std::string_view key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool GgufFile::flag(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  const GgufValue& value = needed(key);
  if (value.type != GgufType::boolean) wrong(key, "a boolean");
  return load<std::uint8_t>(value.data) != 0;
}

std::string_view GgufFile::text(std::string_view key) const {
  const GgufValue& value = needed(key);
  if (value.type != GgufType::string) wrong(key, "a string");
  return {reinterpret_cast<const char*>(value.data), static_cast<std::size_t>(value.count)};
}

std::string_view GgufFile::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : fallback;
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const GgufValue& value = array(key);
  if (value.element != GgufType::string) wrong(key, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(static_cast<std::size_t>(value.count));
  const std::byte* at = value.data;
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto length = static_cast<std::size_t>(load<std::uint64_t>(at));
    out.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return out;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue& value = array(key);
  std::vector<std::int64_t> out;
  if (scalar_bytes(value.element) == 0) wrong(key, "an array of integers");
  out.reserve(static_cast<std::size_t>(value.count));
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto integer = integer_at(value.element, value.data + i * scalar_bytes(value.element));
    if (!integer) wrong(key, "an array of integers");
    out.push_back(*integer);
  }
  return out;
}

std::vector<double> GgufFile::numbers(std::string_view key) const {
  const GgufValue& value = array(key);
  std::vector<double> out;
  if (scalar_bytes(value.element) == 0) wrong(key, "an array of numbers");
  out.reserve(static_cast<std::size_t>(value.count));
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto number = number_at(value.element, value.data + i * scalar_bytes(value.element));
    if (!number) wrong(key, "an array of numbers");
    out.push_back(*number);
  }
  return out;
}

}  // namespace plumb
