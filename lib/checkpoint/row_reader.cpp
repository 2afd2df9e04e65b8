#include "checkpoint/row_reader.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "checkpoint/dequantise.h"
#include "checkpoint/mapped_file.h"

namespace plumb {
namespace {

using Shape = std::vector<std::int64_t>;

// Stored bytes that may lie in memory beside the values made of them; a multiple of every block.
constexpr std::int64_t slab_elements = std::int64_t{1} << 22;
constexpr std::uint64_t slab_bytes = std::uint64_t{1} << 24;
// Values are looked at while they are in the cache; a multiple of every block too.
constexpr std::int64_t looked_at_once = std::int64_t{1} << 14;

}  // namespace

std::int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Shape stored_shape(const Source& source, const Shape& canonical) {
  Shape shape = canonical;
  if (source.outputs >= 0) shape.front() = source.outputs;
  if (source.transposed) std::reverse(shape.begin(), shape.end());
  if (source.flat) shape.erase(shape.begin());
  return shape;
}

RowReader::RowReader(const StoredTensor& stored, const Source& source, const Shape& shape,
                     std::int64_t expert)
    : stored_(stored),
      source_(source),
      base_(expert * product(stored_shape(source, shape))),
      rows_(shape.front()),
      columns_(shape.size() > 1 ? shape[1] : 1),
      vector_(shape.size() == 1) {}

std::uint64_t RowReader::bytes_of(std::int64_t elements) const {
  const std::int64_t block = block_elements(stored_.storage);
  const std::int64_t blocks = product(stored_.info.shape) / block;
  if (blocks == 0) return 0;
  return static_cast<std::uint64_t>(elements / block) *
         (stored_.info.bytes / static_cast<std::uint64_t>(blocks));
}

std::uint64_t RowReader::bytes() const { return bytes_of(taken_); }

void RowReader::release() const {
  if (stored_.scales == nullptr) return stored_.file->release(stored_.data, stored_.info.bytes);
  const std::uint64_t blocks = stored_.info.bytes / 17;
  stored_.file->release(stored_.data, 16 * blocks);
  stored_.scales_file->release(stored_.scales, blocks);
}

template <class Out>
void RowReader::take(std::int64_t first, std::int64_t count, Out* out) {
  for (std::int64_t done = 0; done < count; done += slab_elements) {
    const std::int64_t part = std::min(slab_elements, count - done);
    for (std::int64_t begin = done; begin < done + part; begin += looked_at_once) {
      const std::int64_t piece = std::min(looked_at_once, done + part - begin);
      widen(stored_, first + begin, piece, out + begin);
      finite_ = finite_ && first_non_finite(out + begin, piece) < 0;
    }
    taken_ += part;
    unreleased_ += bytes_of(part);
    if (unreleased_ < slab_bytes) continue;
    release();
    unreleased_ = 0;
  }
}

template <class Out>
void RowReader::all(Out* out) {
  copy_all(out);
  shift(out, rows_ * columns_);
  release();
}

template <class Out>
void RowReader::one(std::int64_t row, Out* out) {
  copy_one(row, out);
  shift(out, columns_);
}

template <class Out>
void RowReader::shift(Out* out, std::int64_t count) const {
  if (source_.offset == 0.0) return;
  for (std::int64_t i = 0; i < count; ++i) out[i] += static_cast<Out>(source_.offset);
}

template <class Out>
void RowReader::copy_all(Out* out) {
  if (vector_) return read_vector(out);
  if (source_.transposed) return read_transposed(out);
  if (source_.group > 0) {
    for (std::int64_t row = 0; row < rows_; row += source_.group) {
      take(base_ + stored_row(row) * columns_, source_.group * columns_, out + row * columns_);
    }
    return;
  }
  if (source_.interleaved_heads == 0) {
    return take(base_ + source_.first * columns_, rows_ * columns_, out);
  }
  for (std::int64_t row = 0; row < rows_; ++row) copy_one(row, out + row * columns_);
}

template <class Out>
void RowReader::copy_one(std::int64_t row, Out* out) {
  if (!source_.transposed) return take(base_ + stored_row(row) * columns_, columns_, out);
  const std::int64_t outputs = stored_.info.shape.back();
  for (std::int64_t column = 0; column < columns_; ++column) {
    take(base_ + column * outputs + stored_row(row), 1, out + column);
  }
}

/// In interleaved order, stored rows 2i and 2i + 1 of a head are its rows i and i + half.
std::int64_t RowReader::stored_row(std::int64_t row) const {
  if (source_.group > 0) {
    return source_.first + row / source_.group * source_.stride + row % source_.group;
  }
  if (source_.interleaved_heads == 0) return source_.first + row;
  const std::int64_t d_head = rows_ / source_.interleaved_heads;
  const std::int64_t half = d_head / 2;
  const std::int64_t head = row / d_head;
  const std::int64_t channel = row % d_head;
  const std::int64_t within = channel < half ? 2 * channel : 2 * (channel - half) + 1;
  return source_.first + head * d_head + within;
}

template <class Out>
void RowReader::read_vector(Out* out) {
  std::vector<Out> values(static_cast<std::size_t>(stored_.info.shape.back()));
  take(base_, stored_.info.shape.back(), values.data());
  for (std::int64_t row = 0; row < rows_; ++row) {
    out[row] = values[static_cast<std::size_t>(stored_row(row))];
  }
}

/// Takes a band of inputs at a time, and turns a few outputs of it in a corner of memory: the rows
/// of `out` may lie at a distance at which they push each other out of the cache.
template <class Out>
void RowReader::read_transposed(Out* out) {
  constexpr std::int64_t band = 32;
  constexpr std::int64_t rows_at_once = 16;
  const std::int64_t outputs = stored_.info.shape.back();
  const std::int64_t first = stored_row(0);
  const std::int64_t span = stored_row(rows_ - 1) - first + 1;
  std::vector<Out> values(static_cast<std::size_t>(band * span));
  std::array<Out, band * rows_at_once> corner;
  std::vector<std::int64_t> places(static_cast<std::size_t>(rows_));
  for (std::int64_t row = 0; row < rows_; ++row)
    places[static_cast<std::size_t>(row)] = stored_row(row) - first;
  for (std::int64_t begin = 0; begin < columns_; begin += band) {
    const std::int64_t width = std::min(band, columns_ - begin);
    for (std::int64_t i = 0; i < width; ++i) {
      take(base_ + (begin + i) * outputs + first, span, values.data() + i * span);
    }
    for (std::int64_t block = 0; block < rows_; block += rows_at_once) {
      const std::int64_t end = std::min(block + rows_at_once, rows_);
      for (std::int64_t i = 0; i < width; ++i) {
        const Out* from = values.data() + i * span;
        const std::int64_t* place = places.data() + block;
        for (std::int64_t row = 0; row < end - block; ++row)
          corner[static_cast<std::size_t>(row * band + i)] = from[place[row]];
      }
      for (std::int64_t row = block; row < end; ++row)
        std::copy_n(corner.data() + (row - block) * band, width, out + row * columns_ + begin);
    }
  }
}

template void RowReader::all(float* out);
template void RowReader::all(double* out);
template void RowReader::one(std::int64_t row, float* out);
template void RowReader::one(std::int64_t row, double* out);

}  // namespace plumb
