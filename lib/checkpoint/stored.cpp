#include "checkpoint/stored.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {

Storage storage_of(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, Storage>, 16> table = {{
      {"F64", Storage::f64},
      {"F32", Storage::f32},
      {"F16", Storage::f16},
      {"BF16", Storage::bf16},
      {"Q4_0", Storage::q4_0},
      {"Q4_1", Storage::q4_1},
      {"Q5_0", Storage::q5_0},
      {"Q5_1", Storage::q5_1},
      {"Q8_0", Storage::q8_0},
      {"Q2_K", Storage::q2_k},
      {"Q3_K", Storage::q3_k},
      {"Q4_K", Storage::q4_k},
      {"Q5_K", Storage::q5_k},
      {"Q6_K", Storage::q6_k},
      {"Q8_K", Storage::q8_k},
      {"MXFP4", Storage::mxfp4},
  }};
  for (const auto& [name, storage] : table) {
    if (name == dtype) return storage;
  }
  return Storage::other;
}

std::int64_t block_elements(Storage storage) {
  switch (storage) {
    case Storage::q4_0:
    case Storage::q4_1:
    case Storage::q5_0:
    case Storage::q5_1:
    case Storage::q8_0:
    case Storage::mxfp4:
    case Storage::mxfp4_pair: return 32;
    case Storage::q2_k:
    case Storage::q3_k:
    case Storage::q4_k:
    case Storage::q5_k:
    case Storage::q6_k:
    case Storage::q8_k: return 256;
    case Storage::f64:
    case Storage::f32:
    case Storage::f16:
    case Storage::bf16:
    case Storage::other: return 1;
  }
  return 1;
}

void sort_by_name(std::vector<StoredTensor>& tensors, const std::string& where) {
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.info.name < b.info.name; });
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].info.name == tensors[i - 1].info.name) {
      throw Error(ErrorKind::bad_file, fmt::format("{}: tensor {} appears twice", where,
                                                   printable(tensors[i].info.name)));
    }
  }
}

const StoredTensor* find_tensor(const std::vector<StoredTensor>& tensors, std::string_view name) {
  const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                      [](const StoredTensor& tensor, std::string_view wanted) {
                                        return tensor.info.name < wanted;
                                      });
  return found != tensors.end() && found->info.name == name ? &*found : nullptr;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace plumb
