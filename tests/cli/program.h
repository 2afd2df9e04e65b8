// Runs the built program as a user's shell would.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace plumb::test {

/// Its path.
std::string program();

struct Outcome {
  int code = -1;         ///< exit code, or -1 if a signal ended it
  std::string out = {};  ///< standard output
  std::string err = {};  ///< standard error
};

/// `out` sends standard output to a file of that name instead (then `Outcome::out` is empty).
Outcome run_plumb(const std::vector<std::string>& arguments,
                  const std::map<std::string, std::string>& environment = {},
                  const std::filesystem::path& out = {});

/// A file whole; empty where there is none.
std::string text_of(const std::filesystem::path& path);

/// The program started; `stop` sends it a signal and waits for its end.
class Started {
 public:
  explicit Started(const std::vector<std::string>& arguments);
  Outcome stop(int signal);

 private:
  int pid_ = 0;
  std::filesystem::path out_;
  std::filesystem::path err_;
};

}  // namespace plumb::test
