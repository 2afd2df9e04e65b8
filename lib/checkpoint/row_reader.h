// Copies of canonical weights out of the tensors of a mapped file.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/family.h"
#include "checkpoint/stored.h"

namespace plumb {

/// Elements of a tensor of this shape.
std::int64_t product(const std::vector<std::int64_t>& shape);

/// The shape the file's tensor has to have. `canonical` is without the axis of the experts.
std::vector<std::int64_t> stored_shape(const Source& source,
                                       const std::vector<std::int64_t>& canonical);

/// Copies rows of a canonical weight out of its stored tensor, to float or double. Pages of the
/// file are let go of once they are copied.
class RowReader {
 public:
  /// `shape` is that of one matrix or vector; where the tensor holds one for each expert, `expert`
  /// says which. `stored` and `source` must outlive the reader.
  RowReader(const StoredTensor& stored, const Source& source,
            const std::vector<std::int64_t>& shape, std::int64_t expert = 0);

  template <class Out>
  void all(Out* out);
  template <class Out>
  void one(std::int64_t row, Out* out);

  /// Stored bytes of what was copied so far.
  std::uint64_t bytes() const;

  /// Whether every number that was copied so far is finite.
  bool finite() const { return finite_; }

  /// Lets go of the pages of the whole stored tensor: the system maps neighbours of a row as well.
  void release() const;

 private:
  template <class Out>
  void take(std::int64_t first, std::int64_t count, Out* out);
  template <class Out>
  void shift(Out* out, std::int64_t count) const;
  template <class Out>
  void copy_all(Out* out);
  template <class Out>
  void copy_one(std::int64_t row, Out* out);
  template <class Out>
  void read_vector(Out* out);
  template <class Out>
  void read_transposed(Out* out);
  std::int64_t stored_row(std::int64_t row) const;
  std::uint64_t bytes_of(std::int64_t elements) const;

  const StoredTensor& stored_;
  const Source& source_;
  std::int64_t base_;  ///< elements of the tensor before the matrix or vector
  std::int64_t rows_;
  std::int64_t columns_;
  bool vector_;
  std::int64_t taken_ = 0;  ///< elements
  bool finite_ = true;
  std::uint64_t unreleased_ = 0;  ///< bytes since pages were last let go of
};

}  // namespace plumb
