#include "checkpoint/gguf_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string_view>
#include <utility>

#include "checkpoint/printable.h"

namespace plumb {
namespace {

constexpr std::uint32_t most_axes = 4;

/// A type as GGML numbers it; those that plumb cannot read are listed so that the file's layout can
/// be checked and its tensors named. Of the types that GGML has given up only the name is left.
struct TensorType {
  std::uint32_t id;
  std::string_view name;
  std::uint64_t elements;  ///< in a block; 0: given up
  std::uint64_t bytes;     ///< of a block
};

constexpr std::array<TensorType, 42> tensor_types = {{
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {4, "Q4_2", 0, 0},        {5, "Q4_3", 0, 0},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},
    {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},
    {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},         {25, "I16", 1, 2},        {26, "I32", 1, 4},
    {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {31, "Q4_0_4_4", 0, 0},   {32, "Q4_0_4_8", 0, 0},
    {33, "Q4_0_8_8", 0, 0},   {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},
    {36, "IQ4_NL_4_4", 0, 0}, {37, "IQ4_NL_4_8", 0, 0}, {38, "IQ4_NL_8_8", 0, 0},
    {39, "MXFP4", 32, 17},    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},
}};

// The table is indexed by the number.
static_assert([] {
  for (std::uint32_t id = 0; id < tensor_types.size(); ++id) {
    if (tensor_types[id].id != id) return false;
  }
  return true;
}());

class TensorParser {
 public:
  TensorParser(GgufCursor& cursor, std::uint64_t alignment)
      : cursor_(cursor), file_(cursor.file()), alignment_(alignment) {}

  std::vector<StoredTensor> parse(std::uint64_t count) {
    std::vector<std::uint64_t> offsets;
    offsets.reserve(static_cast<std::size_t>(count));
    tensors_.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) offsets.push_back(entry());
    place(offsets);
    sort_by_name(tensors_, file_.path().string());
    return std::move(tensors_);
  }

 private:
  std::uint64_t entry();
  void place(const std::vector<std::uint64_t>& offsets);

  GgufCursor& cursor_;
  const MappedFile& file_;
  std::uint64_t alignment_;
  std::vector<StoredTensor> tensors_;
};

/// Reads one tensor's description; returns its offset in the data.
std::uint64_t TensorParser::entry() {
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
  if (id >= tensor_types.size()) {
    cursor_.unsupported(fmt::format("tensor {} has the unknown type {}", shown, id));
  }
  const TensorType& type = tensor_types[id];
  if (type.elements == 0) {
    cursor_.unsupported(
        fmt::format("tensor {} is stored as {}, which GGML has given up; convert "
                    "the model again",
                    shown, type.name));
  }
  if (row % type.elements != 0) {
    cursor_.bad(fmt::format("tensor {} of type {} has rows of {} elements, not a multiple of {}",
                            shown, type.name, row, type.elements));
  }
  const std::uint64_t blocks = elements / type.elements;
  if (blocks > std::numeric_limits<std::uint64_t>::max() / type.bytes) {
    cursor_.bad(fmt::format("tensor {} is larger than any file", shown));
  }
  tensor.info.dtype = std::string(type.name);
  tensor.info.bytes = blocks * type.bytes;
  tensor.storage = storage_of(tensor.info.dtype);
  tensor.file = &file_;
  const auto offset = cursor_.number<std::uint64_t>("a tensor's offset");
  tensors_.push_back(std::move(tensor));
  return offset;
}

/// Turns offsets into pointers, after checking bounds, alignment and overlap.
void TensorParser::place(const std::vector<std::uint64_t>& offsets) {
  const std::uint64_t start = (cursor_.position() + alignment_ - 1) / alignment_ * alignment_;
  if (tensors_.empty()) return;
  if (start > file_.size()) {
    cursor_.bad(fmt::format("is truncated: the data should begin at byte {}, the file has {}",
                            start, file_.size()));
  }
  const std::uint64_t available = file_.size() - start;
  std::vector<std::size_t> order(offsets.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    StoredTensor& tensor = tensors_[i];
    const std::string shown = printable(tensor.info.name);
    if (offsets[i] % alignment_ != 0) {
      cursor_.bad(fmt::format("tensor {} begins at byte {} of the data, not a multiple of {}",
                              shown, offsets[i], alignment_));
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
    const StoredTensor& before = tensors_[order[i - 1]];
    if (offsets[order[i - 1]] + before.info.bytes > offsets[order[i]]) {
      cursor_.bad(fmt::format("tensors {} and {} overlap at byte {} of the data",
                              printable(before.info.name), printable(tensors_[order[i]].info.name),
                              offsets[order[i]]));
    }
  }
}

}  // namespace

std::vector<StoredTensor> read_gguf_tensors(GgufCursor& cursor, std::uint64_t count,
                                            std::uint64_t alignment) {
  return TensorParser(cursor, alignment).parse(count);
}

}  // namespace plumb
