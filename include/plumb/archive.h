// Results in one HDF5 file, readable with h5py in three lines.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plumb {

/// What a dataset is: axis names (one per dimension), unit, and a sentence.
struct Label {
  std::vector<std::string> axes = {};
  std::string unit = {};
  std::string note = {};
};

/// An HDF5 file being written. The file appears under its name only when `close` has succeeded: it
/// is written beside it with the suffix ".part", synced and renamed, so a kill at any moment leaves
/// the previous file untouched. Every failure throws bad_file naming the file, the dataset and the
/// system's reason (say, "No space left on device").
class ArchiveWriter {
 public:
  explicit ArchiveWriter(const std::filesystem::path& path);
  ~ArchiveWriter();  ///< discards the file if it was not closed
  ArchiveWriter(ArchiveWriter&&) noexcept;
  ArchiveWriter& operator=(ArchiveWriter&&) noexcept;

  /// A dataset at an absolute path like "/sink/mean"; groups are made as needed. float32, float64
  /// and int64 keep their dtype; any shape, scalars included; row-major; chunked on the first axis
  /// and deflated when large.
  void dataset(const std::string& path, const at::Tensor& value, const Label& label = {});
  void dataset(const std::string& path, const std::vector<std::string>& values, const Label& label = {});
  /// Attributes of a group or dataset (a group is made if there is none).
  void attribute(const std::string& path, const std::string& name, const std::string& value);
  void attribute(const std::string& path, const std::string& name, double value);
  void attribute(const std::string& path, const std::string& name, std::int64_t value);

  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// An archive opened for reading. Throws bad_file if the file is missing, no HDF5 file, or not made
/// by plumb (root attribute `plumb_format`, currently 1).
class Archive {
 public:
  explicit Archive(const std::filesystem::path& path);
  ~Archive();
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;

  std::vector<std::string> datasets() const;              ///< absolute paths, sorted
  at::Tensor tensor(const std::string& path) const;       ///< bad_file if missing, naming what is there
  std::vector<std::string> strings(const std::string& path) const;
  std::string attribute(const std::string& path, const std::string& name) const;  ///< numbers as text

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
