// What an archive of `plumb p0` or `plumb sink` says, read back and checked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plumb/archive.h"
#include "plumb/circuit.h"
#include "plumb/p0.h"
#include "plumb/sink.h"

namespace plumb::report {

/// A dataset that is not there is read as an empty list or an undefined tensor; one that is there
/// and has another shape than it should throws bad_file.
class ArchiveReader {
 public:
  explicit ArchiveReader(const std::filesystem::path& path) : path_(path), file_(path) {}

  const Archive& file() const { return file_; }
  bool has(const std::string& path) const { return file_.has(path); }
  /// float64, contiguous. Of `shape`, -1 stands for any size.
  at::Tensor numbers(const std::string& path, const std::vector<std::int64_t>& shape) const;
  std::vector<double> list(const std::string& path) const;
  std::vector<std::int64_t> whole(const std::string& path) const;
  std::vector<std::string> strings(const std::string& path) const;
  /// Empty where there is no such group or attribute.
  std::string attribute(const std::string& path, const std::string& name) const;
  double number(const std::string& path, const std::string& name) const;  ///< NaN where not there
  std::map<std::string, std::string> attributes(const std::string& path) const;
  [[noreturn]] void refuse(const std::string& path, const std::string& what) const;

 private:
  std::filesystem::path path_;
  Archive file_;
};

/// A wave as it was stored. `found.verdict` is not filled in: the archive may be of a later plumb.
struct WaveView {
  WaveReport found = {};
  std::string verdict = {};   ///< "positional", ..., "not reached"
  std::string sentence = {};  ///< empty if it was not judged
};

/// S sequences of T positions, M heads.
struct AttentionView {
  std::vector<std::pair<std::int64_t, std::int64_t>> heads = {};  ///< layer and head of each map
  at::Tensor pattern = {};                                        ///< [S, M, T, T] float64
  std::vector<std::vector<std::int64_t>> tokens = {};             ///< without padding
};

struct ArchiveView {
  std::map<std::string, std::string> provenance = {};
  std::vector<std::pair<std::string, SinkSurvey>> surveys = {};  ///< that of /inputs first
  bool located = false;                                          ///< made by `plumb p0`
  bool complete = false;
  std::string verdict = {};
  double position_shift_change = 0;
  std::vector<std::string> notes = {};
  std::vector<WaveView> waves = {};
  std::optional<Circuit> circuit = {};
  std::optional<AttentionView> attention = {};
  std::map<std::int64_t, std::string> texts = {};  ///< of token ids
};

/// Throws bad_file if the archive is damaged, unsupported if it is another command's.
ArchiveView read_view(const std::filesystem::path& path);

/// The waves under /p0.
std::vector<WaveView> read_waves(const ArchiveReader& archive);

}  // namespace plumb::report
