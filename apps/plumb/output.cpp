#include "output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "plumb/error.h"
#include "plumb/report.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

volatile std::sig_atomic_t caught = 0;

[[noreturn]] void fail(const std::string& what, int reason) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", what, std::strerror(reason)));
}

// Writes all of the text. Returns 0 or the system's reason.
int write_all(int file, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    done += static_cast<std::size_t>(count);
  }
  return 0;
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::error_code error;
  const fs::path root = fs::temp_directory_path(error);
  if (error) fail("no directory for temporary files (TMPDIR)", error.value());
  std::string name = (root / "plumb-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) fail("cannot make a directory in " + root.string(), errno);
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void prepare_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail("cannot make the directory " + directory.string(), error.value());
  if (!fs::is_directory(directory, error)) fail("cannot write into " + directory.string(), ENOTDIR);
  std::string probe = (directory / ".plumb-XXXXXX").string();
  const int file = mkstemp(probe.data());
  if (file < 0) fail("cannot write into " + directory.string(), errno);
  close(file);
  unlink(probe.c_str());
}

void write_file(const fs::path& path, const std::string& text) {
  const std::string part = path.string() + ".part";
  const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) fail("cannot write " + path.string(), errno);
  int reason = write_all(file, text);
  if (reason == 0 && fsync(file) != 0) reason = errno;
  if (close(file) != 0 && reason == 0) reason = errno;
  if (reason == 0 && std::rename(part.c_str(), path.c_str()) != 0) reason = errno;
  if (reason != 0) {
    unlink(part.c_str());
    fail("cannot write " + path.string(), reason);
  }
}

void print(const std::string& text) {
  const int reason = write_all(STDOUT_FILENO, text);
  if (reason != 0) fail("cannot write to standard output", reason);
}

void deliver(const std::function<void()>& write_files, const std::string& text) {
  std::exception_ptr trouble;
  try {
    write_files();
  } catch (const Error&) {
    trouble = std::current_exception();
  }
  print(text);
  if (trouble) std::rethrow_exception(trouble);
}

void name_files(RunInfo& run, const std::string& out, const std::string& name) {
  if (out.empty()) return;
  const std::filesystem::path directory = out;
  run.files = {{"archive", (directory / (name + ".h5")).string()},
               {"json", (directory / (name + ".json")).string()},
               {"text", (directory / (name + ".txt")).string()}};
}

void deliver(const RunInfo& run,
             const std::function<void(const std::filesystem::path&)>& write_archive,
             const std::string& json, const std::string& text, const std::string& printed) {
  deliver(
      [&] {
        if (run.files.empty()) return;
        write_archive(run.files.at("archive"));
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
      },
      printed);
}

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { caught = signal; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int signal_caught() { return caught; }

Progress show_progress(bool quiet) {
  const Progress bar = quiet ? Progress() : progress_bar(stderr, isatty(STDERR_FILENO) == 1);
  return [bar](std::string_view what, double done) {
    if (caught != 0) throw Error(ErrorKind::interrupted, "interrupted; nothing was saved");
    if (bar) bar(what, done);
  };
}

void say_cost(const RunInfo& run, bool quiet) {
  if (quiet) return;
  std::fputs(fmt::format("plumb: {}, peak memory {}\n", show_seconds(run.seconds),
                         show_bytes(run.peak_bytes))
                 .c_str(),
             stderr);
}

}  // namespace plumb::app
