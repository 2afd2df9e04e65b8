#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", path.string(), reason));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // Without O_NONBLOCK opening a pipe would wait for a writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) refuse(path, fmt::format("cannot be opened: {}", std::strerror(errno)));
  try {
    struct stat status = {};
    if (::fstat(descriptor_, &status) != 0) refuse(path, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
    if (size_ == 0) return;
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (mapped == MAP_FAILED)
      refuse(path, fmt::format("cannot be mapped: {}", std::strerror(errno)));
    data_ = static_cast<const std::byte*>(mapped);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(descriptor_);
}

std::string_view MappedFile::text() const {
  return {reinterpret_cast<const char*>(data_), static_cast<std::size_t>(size_)};
}

void MappedFile::check_unchanged() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) refuse(path_, std::strerror(errno));
  if (static_cast<std::uint64_t>(status.st_size) != size_) {
    refuse(path_, fmt::format("changed while in use: it had {} bytes and now has {}; open it again",
                              size_, status.st_size));
  }
}

void MappedFile::release(const std::byte* from, std::uint64_t bytes) const {
  if (bytes == 0) return;
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = static_cast<std::uint64_t>(from - data_) / page * page;
  const auto end = static_cast<std::uint64_t>(from - data_) + bytes;
  // A mere hint: where the system refuses, the pages stay until it needs them.
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

std::string read_text(const std::filesystem::path& path, std::uint64_t limit) {
  const MappedFile file(path);
  if (file.size() > limit) {
    refuse(path, fmt::format("has {} bytes, more than the {} allowed here", file.size(), limit));
  }
  return std::string(file.text());
}

}  // namespace plumb
