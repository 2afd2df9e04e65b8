// How much memory is in use. Linking this replaces the program's operator new and delete.
#pragma once

#include <cstddef>

namespace plumb::fuzz {

/// Watches what operator new hands out, in all threads, from here on; one at a time.
class MemoryWatch {
 public:
  MemoryWatch();
  /// The most that was in use at once since then, beyond what was in use then. In bytes.
  std::size_t peak() const;

 private:
  std::ptrdiff_t before_;
};

}  // namespace plumb::fuzz
