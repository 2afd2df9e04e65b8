// Datasets of numbers: their types and chunks, and those that grow row by row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "archive/h5.h"

namespace plumb {

struct Numbers {
  hid_t on_disk;
  hid_t in_memory;
};

/// Nothing for what is neither float32, float64 nor int64.
std::optional<Numbers> numbers_of(at::ScalarType dtype);

/// About 1 MiB per chunk, cut on the first axes only.
h5::Dims chunk_of(h5::Dims dims, std::uint64_t element_bytes);

/// A dataset that grows along its first axis. A Session must be alive whenever it is used.
class Growing {
 public:
  /// Makes it, without rows, for at most `shape[0]` of them. Throws bad_shape for what no row can
  /// have; `where` begins the messages of HDF5.
  Growing(hid_t file, const std::string& path, at::ScalarType dtype,
          const std::vector<std::int64_t>& shape, h5::Where where);

  /// Contiguous rows on the CPU. Throws bad_shape or bad_argument where they do not fit.
  void append(const at::Tensor& rows, const std::string& path, h5::Where where);

  void close(h5::Where where) { h5::close(set_, where); }

 private:
  hid_t in_memory() const;

  at::ScalarType dtype_;
  h5::Handle half_ = {};  ///< the type of float16, for which HDF5 has no name
  h5::Handle set_ = {};
  h5::Dims dims_ = {};  ///< so far
  hsize_t most_ = 0;
};

}  // namespace plumb
