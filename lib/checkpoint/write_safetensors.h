// Writing the safetensors container.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/atomic_file.h"

namespace plumb {

/// One tensor to write; `make` is called when its turn comes, so that only one is held at a time.
struct TensorToWrite {
  std::string name;
  at::ScalarType dtype;  ///< float32, float64, float16, bfloat16, bool
  std::vector<std::int64_t> shape;
  std::function<at::Tensor()> make;  ///< contiguous, on the CPU, of that dtype and shape
};

/// Its size in the file.
std::uint64_t bytes_of(const TensorToWrite& tensor);

/// "F32"; null for types that are not written.
const char* safetensors_dtype(at::ScalarType dtype);

/// Writes header and data. Wider types come first, so that every tensor is aligned to its size.
/// `words` stand in the header's metadata.
void write_safetensors(AtomicFile& file, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& words = {});

}  // namespace plumb
