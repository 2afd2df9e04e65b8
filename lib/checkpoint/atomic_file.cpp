#include "checkpoint/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "plumb/error.h"

namespace plumb {

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  std::string name = path.string() + ".XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail("cannot be created", errno);
  temporary_ = name;
  // mkostemp gives 0600; a model is as readable as other files.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, 0666 & ~mask);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error) const {
  throw Error(ErrorKind::bad_file,
              fmt::format("{}: {}: {}", path_.string(), action, std::strerror(error)));
}

void AtomicFile::write(const void* data, std::size_t size) {
  constexpr std::size_t largest_write = std::size_t{1} << 30;  // one call takes less than 2 GiB
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, at, std::min(size, largest_write));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written", errno);
    at += written;
    size -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::flush() {
  if (descriptor_ < 0) return;
  if (::fsync(descriptor_) != 0) fail("cannot be written", errno);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail("cannot be written", errno);
}

void AtomicFile::commit() {
  flush();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be put in place", errno);
  committed_ = true;
}

}  // namespace plumb
