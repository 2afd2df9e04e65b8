// The one exception type of plumb.
#pragma once

#include <stdexcept>
#include <string>

namespace plumb {

/// What went wrong, coarse enough to choose an exit code by.
enum class ErrorKind {
  bad_argument,  ///< a value the caller gave is not allowed             (exit 2)
  bad_shape,     ///< a tensor has the wrong shape or dtype              (exit 2)
  not_recorded,  ///< a site was asked of a run that did not record it   (exit 2)
  bad_file,      ///< a file is missing, unreadable, damaged or unwritable (exit 3)
  unsupported,   ///< well formed, but plumb does not handle it          (exit 4)
  too_large,     ///< does not fit the memory or the device              (exit 5)
  interrupted,   ///< stopped by a signal, a resumable state was saved   (exit 6)
  internal,      ///< a defect of plumb                                  (exit 1)
};

/// Thrown by every function of plumb that can fail. `what()` is one line: what was expected, what
/// came, where, and what to do about it.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

/// The kind's name as printed and stored: "bad_file".
const char* to_string(ErrorKind kind) noexcept;

/// The exit code the programs return for this kind.
int exit_code(ErrorKind kind) noexcept;

}  // namespace plumb
