// Promises that hold whatever the bytes of a file.
#pragma once

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "plumb/checkpoint.h"
#include "plumb/error.h"
#include "plumb/tokenizer.h"

namespace plumb::fuzz {

/// Throws std::logic_error of this message unless it holds.
void require(bool holds, const std::string& message);

/// Whether `action` succeeded; false when it threw a plumb::Error. Requires of that error that its
/// kind is one of `kinds` and its message one line that can be printed.
bool succeeds(const std::function<void()>& action, std::initializer_list<ErrorKind> kinds);

/// The same for opening and reading a file.
bool reads(const std::function<void()>& action);

/// Reads every weight in every way there is and compares the ways.
void read_everything(const Checkpoint& checkpoint);

/// Encodes texts that are hard to cut, and the tokenizer's own tokens; checks ids and places.
void encode_everything(const Tokenizer& tokenizer);

/// A directory in memory, removed when the program ends.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view bytes) const;
  void remove(std::string_view name) const;

 private:
  std::filesystem::path path_;
};

}  // namespace plumb::fuzz
