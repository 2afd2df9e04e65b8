#include "archive/growing.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::uint64_t kChunk = 1 << 20;

}  // namespace

std::optional<Numbers> numbers_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return Numbers{H5T_IEEE_F32LE, H5T_NATIVE_FLOAT};
    case at::kDouble: return Numbers{H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE};
    case at::kLong: return Numbers{H5T_STD_I64LE, H5T_NATIVE_INT64};
    default: return std::nullopt;
  }
}

h5::Dims chunk_of(h5::Dims dims, std::uint64_t element_bytes) {
  std::uint64_t bytes = std::accumulate(dims.begin(), dims.end(), element_bytes,
                                        [](std::uint64_t a, hsize_t b) { return a * b; });
  for (hsize_t& size : dims) {
    if (bytes <= kChunk) break;
    const std::uint64_t row = bytes / size;
    size = std::clamp<hsize_t>(kChunk / row, 1, size);
    bytes = row * size;
  }
  return dims;
}

Growing::Growing(hid_t file, const std::string& path, at::ScalarType dtype,
                 const std::vector<std::int64_t>& shape, h5::Where where)
    : dtype_(dtype) {
  if (dtype != at::kHalf && !numbers_of(dtype)) {
    throw Error(ErrorKind::bad_shape,
                fmt::format("dataset {}: rows can be kept as float16, float32, float64 and int64, "
                            "not {}",
                            path, c10::toString(dtype)));
  }
  if (shape.empty() || std::ranges::any_of(shape, [](std::int64_t size) { return size < 1; })) {
    throw Error(ErrorKind::bad_shape, fmt::format("dataset {}: [{}] is no shape of rows to come",
                                                  path, fmt::join(shape, ", ")));
  }
  if (dtype == at::kHalf) half_ = h5::half_type(where);
  const h5::Dims most(shape.begin(), shape.end());
  dims_ = most;
  dims_.front() = 0;
  most_ = most.front();
  const h5::Handle creation = h5::dataset_creation(where);
  h5::set_chunks(creation, chunk_of(most, c10::elementSize(dtype)), false, where);
  const hid_t on_disk = dtype == at::kHalf ? static_cast<hid_t>(half_) : numbers_of(dtype)->on_disk;
  set_ = h5::create_dataset(file, path, on_disk, h5::growing_extent(dims_, most, where), creation,
                            where);
}

hid_t Growing::in_memory() const {
  return dtype_ == at::kHalf ? static_cast<hid_t>(half_) : numbers_of(dtype_)->in_memory;
}

void Growing::append(const at::Tensor& rows, const std::string& path, h5::Where where) {
  const h5::Dims count(rows.sizes().begin(), rows.sizes().end());
  const bool fits =
      count.size() == dims_.size() && std::equal(count.begin() + 1, count.end(), dims_.begin() + 1);
  if (!fits || rows.scalar_type() != dtype_) {
    throw Error(
        ErrorKind::bad_shape,
        fmt::format("rows of {} must be [{}] behind their first axis and {}; [{}] of {} came", path,
                    fmt::join(dims_.begin() + 1, dims_.end(), ", "), c10::toString(dtype_),
                    fmt::join(count, ", "), c10::toString(rows.scalar_type())));
  }
  const hsize_t first = dims_.front();
  if (count.front() > most_ - first) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} was reserved for {} rows; {} are there and {} more came", path,
                            most_, first, count.front()));
  }
  if (count.front() == 0) return;
  dims_.front() += count.front();
  h5::set_extent(set_, dims_, where);
  h5::write_rows(set_, in_memory(), first, count, rows.data_ptr(), where);
}

}  // namespace plumb
