// What leaves the program: files, standard output, progress; and how it is stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "plumb/progress.h"
#include "plumb/run_info.h"

namespace plumb::app {

/// A fresh directory, removed with what is in it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Makes the directory and sees, before any long work, that files can be written into it.
/// Throws bad_file.
void prepare_directory(const std::filesystem::path& directory);

/// Writes the file whole or not at all. Throws bad_file with the system's reason.
void write_file(const std::filesystem::path& path, const std::string& text);

/// Writes to standard output at once. Throws bad_file with the system's reason.
void print(const std::string& text);

/// Writes files, then prints the text, even if a file could not be written (which is thrown
/// afterwards): whoever reads standard output may stop in the middle, and what was computed must
/// not be lost to a full disk.
void deliver(const std::function<void()>& write_files, const std::string& text);

/// Names, where `out` is a directory, the archive, JSON and text of a report in `run.files`:
/// OUT/NAME.h5, .json and .txt.
void name_files(RunInfo& run, const std::string& out, const std::string& name);

/// Delivers a report to the files that `run` names, the archive by `write_archive` with its path,
/// and to standard output.
void deliver(const RunInfo& run,
             const std::function<void(const std::filesystem::path&)>& write_archive,
             const std::string& json, const std::string& text, const std::string& printed);

/// Makes SIGINT and SIGTERM stop the job at its next progress call. A second one ends at once.
void catch_signals();
/// The signal that came, or 0.
int signal_caught();

/// Shows the progress on standard error, unless `quiet`, until it is destroyed; throws
/// `interrupted` after a signal.
Progress show_progress(bool quiet);

/// Time and peak memory on standard error, unless `quiet`.
void say_cost(const RunInfo& run, bool quiet);

}  // namespace plumb::app
