#include "checkpoint/mxfp4_pairs.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::string_view blocks_end = "_blocks";
constexpr std::string_view scales_end = "_scales";

std::string_view without(std::string_view name, std::string_view end) {
  return name.substr(0, name.size() - end.size());
}

/// Of the pair's tensors, the one with the other name must be there.
const StoredTensor& partner(const std::vector<StoredTensor>& tensors, const std::string& name,
                            const std::string& stem, std::string_view end,
                            const std::string& where) {
  const StoredTensor* found = find_tensor(tensors, stem + std::string(end));
  if (found == nullptr) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: tensor {} is there without {}", where, printable(name),
                            printable(stem + std::string(end))));
  }
  return *found;
}

StoredTensor joined(const StoredTensor& blocks, const StoredTensor& scales, std::string name,
                    const std::string& where) {
  const std::vector<std::int64_t>& shape = blocks.info.shape;
  if (blocks.info.dtype != "U8" || shape.size() != 4 || shape.back() != 16) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("{}: tensor {} should be U8 of shape [experts, rows, groups, 16]; it is "
                    "{} of shape {}",
                    where, printable(blocks.info.name), printable(blocks.info.dtype),
                    shape_text(shape)));
  }
  const std::vector<std::int64_t> groups(shape.begin(), shape.end() - 1);
  if (scales.info.dtype != "U8" || scales.info.shape != groups) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: tensor {} should be U8 of shape {}; it is {} of shape {}", where,
                            printable(scales.info.name), shape_text(groups),
                            printable(scales.info.dtype), shape_text(scales.info.shape)));
  }
  StoredTensor pair = blocks;
  pair.info.name = std::move(name);
  pair.info.dtype = "MXFP4";
  pair.info.shape = {shape[0], shape[1], shape[2] * 32};
  pair.info.bytes = blocks.info.bytes + scales.info.bytes;
  pair.storage = Storage::mxfp4_pair;
  pair.scales = scales.data;
  pair.scales_file = scales.file;
  return pair;
}

}  // namespace

void join_mxfp4_pairs(std::vector<StoredTensor>& tensors, const std::string& where) {
  std::vector<StoredTensor> kept;
  kept.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) {
    const std::string& name = tensor.info.name;
    if (name.ends_with(scales_end)) {
      partner(tensors, name, std::string(without(name, scales_end)), blocks_end, where);
    } else if (name.ends_with(blocks_end)) {
      const std::string stem(without(name, blocks_end));
      const StoredTensor& scales = partner(tensors, name, stem, scales_end, where);
      kept.push_back(joined(tensor, scales, stem, where));
    } else {
      kept.push_back(tensor);
    }
  }
  tensors = std::move(kept);
  sort_by_name(tensors, where);
}

}  // namespace plumb
