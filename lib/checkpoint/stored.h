// A tensor as it lies in a mapped file, whatever the file's format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/checkpoint.h"

namespace plumb {

class MappedFile;

/// Encodings that can be read; `other` can only be listed.
enum class Storage {
  f64,
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  q8_k,
  mxfp4,
  mxfp4_pair,  ///< the same numbers, the powers of two of the blocks apart from them
  other,
};

struct StoredTensor {
  TensorInfo info = {};
  Storage storage = Storage::other;
  const MappedFile* file = nullptr;   ///< outlives the tensor
  const std::byte* data = nullptr;    ///< info.bytes bytes, not necessarily aligned; of an
                                      ///< mxfp4_pair 16 for each block, and
  const std::byte* scales = nullptr;  ///< one for each block, in
  const MappedFile* scales_file = nullptr;
};

/// "Q4_1" and "F32" to the encoding; `other` for every name that cannot be read.
Storage storage_of(std::string_view dtype);

/// Elements that are stored together: 1, or 32 or 256 for the quantised types.
std::int64_t block_elements(Storage storage);

/// Sorts by name. Throws bad_file beginning with `where` when two tensors share a name.
void sort_by_name(std::vector<StoredTensor>& tensors, const std::string& where);

/// In tensors sorted by name; null when there is none.
const StoredTensor* find_tensor(const std::vector<StoredTensor>& tensors, std::string_view name);

/// "[576, 192]"
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace plumb
