#include "archive/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace plumb {

namespace fs = std::filesystem;

// A writer that finished in between has renamed the file we hold the lock of, hence the comparison
// and the new attempt.
int open_exclusively(const fs::path& part) {
  for (;;) {
    const int descriptor = open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) return -1;
    struct stat held = {};
    struct stat named = {};
    if (flock(descriptor, LOCK_EX | LOCK_NB) == 0 && fstat(descriptor, &held) == 0) {
      if (stat(part.c_str(), &named) == 0 && held.st_ino == named.st_ino &&
          held.st_dev == named.st_dev) {
        if (ftruncate(descriptor, 0) == 0) return descriptor;
      } else {
        close(descriptor);
        continue;
      }
    }
    const int reason = errno;
    close(descriptor);
    errno = reason;
    return -1;
  }
}

void sync_directory(const fs::path& directory) {
  const int descriptor = open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

}  // namespace plumb
