// Finished tiles of a long experiment in an HDF5 file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "plumb/tiles.h"

namespace plumb {

/// Tiles in one HDF5 file of fixed size: `/tiles/values` [sum of sizes] float64, tile after tile,
/// and `/tiles/check` [tiles] int64, a checksum of each finished tile's values, 0 of one that is
/// not finished; the attribute `experiment` of the root is the fingerprint. Once the file is made
/// only numbers in it change, and each tile is written before its checksum, so that a process
/// killed at any moment loses the tiles in work and no others. Two processes cannot open one file.
class TileFile : public TileStore {
 public:
  /// `resume`: go on with the file if there is one; else one that is there is refused.
  TileFile(std::filesystem::path path, bool resume);
  ~TileFile() override;
  TileFile(const TileFile&) = delete;
  TileFile& operator=(const TileFile&) = delete;

  /// Makes the file, or opens it. Throws bad_argument if it belongs to another experiment, or if
  /// there is one and `resume` is false; bad_file if it is damaged or cannot be written.
  void open(const TileLayout& layout) override;
  std::optional<at::Tensor> find(std::int64_t tile) override;
  /// Throws bad_file with the system's reason; what was kept before stays.
  void keep(std::int64_t tile, const at::Tensor& values) override;

  std::int64_t count() const;     ///< tiles of the experiment; 0 before it is opened
  std::int64_t finished() const;  ///< those that are kept
  const std::filesystem::path& path() const;
  void remove();  ///< deletes the file: its results are in a better place

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
