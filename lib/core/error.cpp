#include "plumb/error.h"

namespace plumb {

const char* to_string(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::bad_argument: return "bad_argument";
    case ErrorKind::bad_shape: return "bad_shape";
    case ErrorKind::not_recorded: return "not_recorded";
    case ErrorKind::bad_file: return "bad_file";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::too_large: return "too_large";
    case ErrorKind::interrupted: return "interrupted";
    case ErrorKind::internal: return "internal";
  }
  return "internal";
}

int exit_code(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::bad_argument:
    case ErrorKind::bad_shape:
    case ErrorKind::not_recorded: return 2;
    case ErrorKind::bad_file: return 3;
    case ErrorKind::unsupported: return 4;
    case ErrorKind::too_large: return 5;
    case ErrorKind::interrupted: return 6;
    case ErrorKind::internal: return 1;
  }
  return 1;
}

}  // namespace plumb
