#include "failure.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "output.h"
#include "plumb/error.h"

namespace plumb::app {
namespace {

/// One line on standard error, whatever the message held.
int fail(std::string message, int code) {
  message.resize(std::min(message.size(), message.find('\n')));
  std::fputs(("plumb: error: " + message + "\n").c_str(), stderr);
  return code;
}

}  // namespace

int tell_failure() noexcept {
  const std::string no_memory = "out of memory; try fewer or shorter sequences";
  try {
    throw;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted && signal_caught() != 0) {
      return fail(error.what(), 128 + signal_caught());  // nothing to resume: as shells count it
    }
    return fail(error.what(), exit_code(error.kind()));
  } catch (const std::bad_alloc&) {
    return fail(no_memory, exit_code(ErrorKind::too_large));
  } catch (const std::exception& error) {
    const std::string text = error.what();
    // LibTorch's allocators have no exception type of their own.
    if (text.find("can't allocate memory") != std::string::npos ||
        text.find("out of memory") != std::string::npos) {
      return fail(no_memory, exit_code(ErrorKind::too_large));
    }
    return fail("internal: " + text, exit_code(ErrorKind::internal));
  } catch (...) {
    return fail("internal: an exception of unknown type", exit_code(ErrorKind::internal));
  }
}

}  // namespace plumb::app
