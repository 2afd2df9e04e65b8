#include "cli/program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "support/paths.h"

extern char** environ;  // NOLINT: POSIX

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

int start(const std::vector<std::string>& arguments,
          const std::map<std::string, std::string>& environment, const fs::path& out,
          const fs::path& err) {
  std::vector<std::string> words = {PLUMB_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  std::vector<std::string> settings;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string setting = *entry;
    if (!environment.contains(setting.substr(0, setting.find('=')))) settings.push_back(setting);
  }
  for (const auto& [name, value] : environment) settings.push_back(name + "=" + value);
  std::vector<char*> envp;
  for (std::string& setting : settings) envp.push_back(setting.data());
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  int pid = 0;
  const int failed = posix_spawn(&pid, PLUMB_PROGRAM, &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("cannot start " PLUMB_PROGRAM);
  return pid;
}

int wait_for(int pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw std::runtime_error("cannot wait for the program");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string program() { return PLUMB_PROGRAM; }

Outcome run_plumb(const std::vector<std::string>& arguments,
                  const std::map<std::string, std::string>& environment, const fs::path& out) {
  const fs::path scratch = scratch_dir();
  const fs::path printed = out.empty() ? scratch / "out" : out;
  Outcome outcome;
  outcome.code = wait_for(start(arguments, environment, printed, scratch / "err"));
  if (out.empty()) outcome.out = text_of(printed);
  outcome.err = text_of(scratch / "err");
  return outcome;
}

Started::Started(const std::vector<std::string>& arguments) {
  const fs::path scratch = scratch_dir();
  out_ = scratch / "out";
  err_ = scratch / "err";
  pid_ = start(arguments, {}, out_, err_);
}

Outcome Started::stop(int signal) {
  kill(pid_, signal);
  Outcome outcome;
  outcome.code = wait_for(pid_);
  outcome.out = text_of(out_);
  outcome.err = text_of(err_);
  return outcome;
}

}  // namespace plumb::test
