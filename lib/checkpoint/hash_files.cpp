#include "checkpoint/hash_files.h"

#include <algorithm>
#include <utility>

#include "core/sha256.h"

namespace plumb {
namespace {

// Hashed before their pages are let go of, so that hashing a model does not fill the memory.
constexpr std::uint64_t bytes_at_once = 1 << 24;

std::string hash_beginning(const MappedFile& file, std::uint64_t bytes) {
  file.check_unchanged();
  Sha256 hash;
  for (std::uint64_t done = 0; done < bytes; done += bytes_at_once) {
    const std::uint64_t part = std::min(bytes_at_once, bytes - done);
    hash.update(file.data() + done, static_cast<std::size_t>(part));
    file.release(file.data() + done, part);
  }
  return hash.hex();
}

}  // namespace

std::string hash_file(const MappedFile& file) { return hash_beginning(file, file.size()); }

std::string hash_files(const std::vector<std::shared_ptr<const MappedFile>>& files,
                       const std::function<std::uint64_t(const MappedFile&)>& bytes) {
  std::vector<std::pair<std::string, const MappedFile*>> named;
  for (const auto& file : files) named.emplace_back(file->path().filename().string(), file.get());
  std::sort(named.begin(), named.end());
  std::string lines;
  for (const auto& [name, file] : named) {
    lines += hash_beginning(*file, bytes(*file)) + "  " + name + "\n";
  }
  Sha256 hash;
  hash.update(lines.data(), lines.size());
  return hash.hex();
}

}  // namespace plumb
