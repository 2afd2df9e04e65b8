#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/mutators.h"

namespace plumb::fuzz {
namespace {

constexpr std::uint32_t type_string = 8;
constexpr std::uint32_t type_array = 9;
constexpr std::uint32_t types = 13;
constexpr std::size_t scalar_size[types] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string counted(std::string_view text) {
  return raw(static_cast<std::uint64_t>(text.size())) + std::string(text);
}

struct Entry {
  std::string key;
  std::uint32_t type = 0;
  std::uint32_t element = 0;             ///< of an array
  std::vector<std::string> values = {};  ///< one; of an array, its elements (nested ones as one)
};

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
};

/// A file taken apart, as far as it could be.
struct File {
  std::uint32_t version = 3;
  std::vector<Entry> entries = {};
  std::vector<Tensor> tensors = {};
  std::string data = {};
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::optional<File> read() {
    File file;
    if (take(4) != "GGUF") return {};
    file.version = number<std::uint32_t>();
    const auto tensors = number<std::uint64_t>();
    const auto entries = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < entries && sound_; ++i) file.entries.push_back(entry());
    for (std::uint64_t i = 0; i < tensors && sound_; ++i) file.tensors.push_back(tensor());
    if (!sound_) return {};
    at_ = std::min((at_ + 31) / 32 * 32, bytes_.size());
    file.data = bytes_.substr(at_);
    return file;
  }

 private:
  std::string take(std::uint64_t size) {
    if (size > bytes_.size() - at_) {
      sound_ = false;
      return {};
    }
    at_ += size;
    return std::string(bytes_.substr(at_ - size, size));
  }
  template <class T>
  T number() {
    T value{};
    const std::string bytes = take(sizeof value);
    if (sound_) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string text() { return take(number<std::uint64_t>()); }

  Entry entry() {
    Entry entry{text(), number<std::uint32_t>()};
    std::uint64_t count = 1;
    std::uint32_t type = entry.type;
    if (type == type_array) {
      type = entry.element = number<std::uint32_t>();
      count = number<std::uint64_t>();
    }
    if (type >= types || type == type_array) sound_ = false;
    for (std::uint64_t i = 0; i < count && sound_; ++i) {
      entry.values.push_back(type == type_string ? text() : take(scalar_size[type]));
    }
    return entry;
  }

  Tensor tensor() {
    Tensor tensor{text(), {}};
    const auto axes = number<std::uint32_t>();
    for (std::uint32_t i = 0; i < axes && sound_; ++i) {
      tensor.dims.push_back(number<std::uint64_t>());
    }
    tensor.type = number<std::uint32_t>();
    tensor.offset = number<std::uint64_t>();
    return tensor;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  bool sound_ = true;
};

std::string write(const File& file, const Mutation& mutation) {
  const auto off = [&] { return mutation.one_in(40) ? mutation.below(3) - 1 : 0; };
  std::string out = "GGUF" + raw(file.version) +
                    raw(static_cast<std::uint64_t>(file.tensors.size() + off())) +
                    raw(static_cast<std::uint64_t>(file.entries.size() + off()));
  for (const Entry& entry : file.entries) {
    out += counted(entry.key) + raw(entry.type);
    const bool array = entry.type == type_array;
    if (array) {
      out += raw(entry.element) + raw(static_cast<std::uint64_t>(entry.values.size() + off()));
    }
    const bool texts = (array ? entry.element : entry.type) == type_string;
    for (const std::string& value : entry.values) out += texts ? counted(value) : value;
  }
  for (const Tensor& tensor : file.tensors) {
    out += counted(tensor.name) + raw(static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::uint64_t extent : tensor.dims) out += raw(extent);
    out += raw(tensor.type) + raw(tensor.offset);
  }
  out.resize((out.size() + 31) / 32 * 32, '\0');
  return out + file.data;
}

/// Gives every tensor the room that it needs, one after the other.
void lay_out(File& file) {
  // Elements and bytes of a block of the types in use.
  constexpr std::array<std::array<std::uint64_t, 2>, 16> blocks = {{{1, 4},
                                                                    {1, 2},
                                                                    {32, 18},
                                                                    {32, 20},
                                                                    {1, 4},
                                                                    {1, 4},
                                                                    {32, 22},
                                                                    {32, 24},
                                                                    {32, 34},
                                                                    {32, 36},
                                                                    {256, 84},
                                                                    {256, 110},
                                                                    {256, 144},
                                                                    {256, 176},
                                                                    {256, 210},
                                                                    {256, 292}}};
  constexpr std::uint64_t most = 1 << 15;
  std::uint64_t end = 0;
  for (Tensor& tensor : file.tensors) {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : tensor.dims) {
      if (extent > most || elements > most) return;
      elements *= extent;
    }
    const auto& block = blocks[std::min<std::size_t>(tensor.type, blocks.size() - 1)];
    const bool half = tensor.type == 30;
    tensor.offset = end;
    end += half ? 2 * elements : elements / block[0] * block[1];
    end = (end + 31) / 32 * 32;
  }
  if (end <= most) file.data.resize(end, '\x15');
}

std::string edge_scalar(std::size_t size, const Mutation& mutation) {
  static const std::vector<std::uint64_t> values = {0,
                                                    1,
                                                    2,
                                                    3,
                                                    4,
                                                    8,
                                                    16,
                                                    0x7f,
                                                    0x80,
                                                    0xff,
                                                    0x7fff,
                                                    0xffff,
                                                    0x7fffffff,
                                                    0x80000000,
                                                    0xffffffff,
                                                    0x3f800000,
                                                    0x7f800000,
                                                    0x7fc00000,
                                                    0x7fffffffffffffff,
                                                    0xffffffffffffffff,
                                                    0x7ff0000000000000};
  return raw(values[mutation.below(values.size())]).substr(0, size);
}

void change_value(Entry& entry, const Mutation& mutation) {
  const bool array = entry.type == type_array;
  const std::uint32_t type = array ? entry.element : entry.type;
  if (array && mutation.one_in(3)) {
    const std::size_t at = mutation.below(entry.values.size());
    if (entry.values.empty() || mutation.one_in(2)) {
      entry.values.push_back(entry.values.empty() ? edge_scalar(scalar_size[type], mutation)
                                                  : entry.values[at]);
    } else {
      entry.values.erase(entry.values.begin() + static_cast<std::ptrdiff_t>(at));
    }
    return;
  }
  if (entry.values.empty()) return;
  std::string& value = entry.values[mutation.below(entry.values.size())];
  if (type == type_string) {
    value = mutation.bytes(value, 64);
  } else {
    value = mutation.one_in(2) ? edge_scalar(value.size(), mutation)
                               : mutation.bytes(value, value.size());
    value.resize(scalar_size[type], '\0');
  }
}

/// A scalar of another type with much the same value, or an array of it.
void change_type(Entry& entry, const Mutation& mutation) {
  if (entry.type == type_array || entry.type == type_string || entry.values.empty()) return;
  if (mutation.one_in(3)) {
    entry.element = entry.type;
    entry.type = type_array;
    return;
  }
  const std::array<std::uint32_t, 11> scalars = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12};
  entry.type = scalars[mutation.below(scalars.size())];
  entry.values.front().resize(scalar_size[entry.type], '\0');
}

void change_entry(File& file, const Mutation& mutation) {
  if (file.entries.empty()) return;
  const std::size_t at = mutation.below(file.entries.size());
  Entry& entry = file.entries[at];
  switch (mutation.below(8)) {
    case 0: file.entries.erase(file.entries.begin() + static_cast<std::ptrdiff_t>(at)); return;
    case 1: entry.key = mutation.bytes(entry.key, 64); return;
    case 2: {
      Entry copy = file.entries[mutation.below(file.entries.size())];
      copy.key = mutation.one_in(2) ? entry.key : mutation.bytes(copy.key, 64);
      file.entries.push_back(std::move(copy));
      return;
    }
    case 3:
      std::swap(entry.values, file.entries[mutation.below(file.entries.size())].values);
      return;
    case 4: return change_type(entry, mutation);
    default: return change_value(entry, mutation);
  }
}

void change_tensor(File& file, const Mutation& mutation) {
  if (file.tensors.empty()) return;
  const std::size_t at = mutation.below(file.tensors.size());
  Tensor& tensor = file.tensors[at];
  switch (mutation.below(7)) {
    case 0: file.tensors.erase(file.tensors.begin() + static_cast<std::ptrdiff_t>(at)); return;
    case 1: file.tensors.push_back(tensor); [[fallthrough]];
    case 2: file.tensors.back().name = mutation.bytes(file.tensors.back().name, 64); return;
    case 3: tensor.type = static_cast<std::uint32_t>(mutation.below(44)); return;
    case 4: tensor.offset = tensor.offset / 2 + 32 * mutation.below(3); return;
    case 5: std::swap(tensor.name, file.tensors[mutation.below(file.tensors.size())].name); return;
    default: break;
  }
  if (tensor.dims.empty() || mutation.one_in(4)) {
    tensor.dims.push_back(mutation.below(3));
  } else {
    tensor.dims[mutation.below(tensor.dims.size())] =
        mutation.one_in(3) ? std::uint64_t{1} << mutation.below(64) : mutation.below(300);
  }
}

}  // namespace

std::string mutate_gguf(std::string_view input, const Mutation& mutation) {
  std::optional<File> file = mutation.one_in(6) ? std::nullopt : Reader(input).read();
  if (!file) return mutation.bytes(input, input.size() + 64);
  const std::size_t changes = 1 + mutation.below(3);
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t choice = mutation.below(8);
    if (choice == 0) {
      file->data = mutation.bytes(file->data, file->data.size() + 32);
    } else if (choice < 4) {
      change_tensor(*file, mutation);
    } else {
      change_entry(*file, mutation);
    }
  }
  if (!mutation.one_in(3)) lay_out(*file);
  return write(*file, mutation);
}

}  // namespace plumb::fuzz
