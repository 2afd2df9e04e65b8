#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <thread>

#include "checkpoint/atomic_file.h"
#include "plumb/circuit.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kLongest{120};

// Waits for a child; one that takes too long is ended. Whether it succeeded.
bool succeeds(pid_t child) {
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (ended < 0 && errno != EINTR) return false;
    if (std::chrono::steady_clock::now() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

// Runs `dot -Tsvg -o <svg> <source>`, found along PATH, without a shell and silently.
bool run_dot(const fs::path& source, const fs::path& svg) {
  std::string arguments[] = {"dot", "-Tsvg", "-o", svg.string(), source.string()};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int error = posix_spawnp(&child, "dot", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 && succeeds(child);
}

}  // namespace

namespace {

bool draw_text(const std::string& text, const fs::path& dot_file) {
  fs::path svg = fs::absolute(dot_file);
  svg.replace_extension(".svg");
  if (svg == fs::absolute(dot_file)) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("'{}' would be overwritten by its own drawing; name it .dot",
                            dot_file.string()));
  }
  AtomicFile file(dot_file);
  file.write(text.data(), text.size());
  file.commit();

  const fs::path part = svg.string() + ".part";
  std::error_code ignored;
  if (!run_dot(fs::absolute(dot_file), part)) {
    fs::remove(part, ignored);
    return false;
  }
  if (rename(part.c_str(), svg.c_str()) != 0) {
    const std::string reason = std::strerror(errno);
    fs::remove(part, ignored);
    throw Error(ErrorKind::bad_file, fmt::format("cannot write '{}': {}", svg.string(), reason));
  }
  return true;
}

}  // namespace

bool draw(const Circuit& circuit, const fs::path& dot_file) {
  return draw_text(to_dot(circuit), dot_file);
}

bool draw(const EdgeCircuit& circuit, const fs::path& dot_file) {
  return draw_text(to_dot(circuit), dot_file);
}

}  // namespace plumb
