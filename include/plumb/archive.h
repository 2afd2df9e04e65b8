// Results in one HDF5 file, readable with h5py in three lines.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plumb {

/// What a dataset is: axis names (one per dimension), unit, and a sentence. Stored as the
/// attributes "axes", "unit" and "note"; what is empty is left out.
struct Label {
  std::vector<std::string> axes = {};
  std::string unit = {};
  std::string note = {};
};

/// An HDF5 file being written. The file appears under its name only when `close` has succeeded: it
/// is written beside it with the suffix ".part", synced and renamed, so a kill at any moment leaves
/// the previous file untouched. Every failure of the system throws bad_file naming the file, the
/// dataset and the system's reason (say, "No space left on device"); after one, nothing more can be
/// written and the previous file stays. A second writer of the same path, in this process or
/// another, is refused with bad_file.
///
/// Metadata and data carry checksums, so that `Archive` notices damage. Files of equal content are
/// equal byte for byte. All of HDF5 sits behind one lock: any thread may call, one works at a time.
class ArchiveWriter {
 public:
  explicit ArchiveWriter(const std::filesystem::path& path);
  ~ArchiveWriter();  ///< discards the file if it was not closed
  ArchiveWriter(ArchiveWriter&&) noexcept;
  ArchiveWriter& operator=(ArchiveWriter&&) noexcept;

  /// A dataset at an absolute path like "/sink/mean"; groups are made as needed. Dense float32,
  /// float64 and int64 keep their dtype, others throw bad_shape; any shape, scalars and empty ones
  /// included; row-major; chunked on the first axes and deflated when large. Throws bad_argument
  /// for a path that is taken or not absolute, and for axis names that do not match the shape.
  void dataset(const std::string& path, const at::Tensor& value, const Label& label = {});
  /// Strings of UTF-8, stored at the width of the longest. A NUL byte in one throws bad_argument.
  void dataset(const std::string& path, const std::vector<std::string>& values,
               const Label& label = {});
  /// A dataset that `append` fills, rows after rows, up to the first axis of `shape`; float16,
  /// float32, float64 or int64; chunked on its first axes, not deflated. When the file is closed
  /// the axis is as long as what was appended. Throws as `dataset` does.
  void reserve(const std::string& path, at::ScalarType dtype,
               const std::vector<std::int64_t>& shape, const Label& label = {});
  /// Rows [n, ...] of a reserved dataset, of its dtype; they are on their way to the disk when it
  /// returns. Throws bad_argument where nothing was reserved or no room is left for them, bad_shape
  /// where they differ in shape or dtype.
  void append(const std::string& path, const at::Tensor& rows);
  /// Attributes of a group or dataset (a group is made if there is none; "/" is the root). One of
  /// the same name is replaced.
  void attribute(const std::string& path, const std::string& name, const std::string& value);
  void attribute(const std::string& path, const std::string& name, double value);
  void attribute(const std::string& path, const std::string& name, std::int64_t value);

  void close();

 private:
  struct Impl;
  Impl& open() const;
  std::unique_ptr<Impl> impl_;
};

/// An archive opened for reading. Throws bad_file if the file is missing, damaged, no HDF5 file, or
/// not made by plumb (root attribute `plumb_format`, currently 1); unsupported if it is of a later
/// format. Memory in use stays in proportion to the size of the file, whatever the file claims.
class Archive {
 public:
  explicit Archive(const std::filesystem::path& path);
  ~Archive();
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;

  std::vector<std::string> datasets() const;  ///< absolute paths, sorted
  bool has(const std::string& path) const;    ///< whether there is such a dataset or group
  /// bad_file if missing, naming what is there. Whole numbers come as int64, others as float32 or
  /// float64; unsupported if the dataset holds something else.
  at::Tensor tensor(const std::string& path) const;
  /// Strings of fixed width, as `ArchiveWriter` makes them. Others are unsupported: HDF5 keeps
  /// strings of variable length without checksums, and a damaged one can crash it.
  std::vector<std::string> strings(const std::string& path) const;
  Label label(const std::string& path) const;
  /// Numbers as text; bad_file if missing, naming what is there.
  std::string attribute(const std::string& path, const std::string& name) const;
  /// Every attribute of a group or dataset; a list as its values joined by ", ".
  std::map<std::string, std::string> attributes(const std::string& path) const;

 private:
  struct Impl;
  const Impl& open() const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
