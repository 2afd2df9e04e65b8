// SHA-256 (FIPS 180-4), fed in pieces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace plumb {

class Sha256 {
 public:
  Sha256();

  void update(const void* data, std::size_t size);

  /// The digest of everything fed so far, 64 lower-case hexadecimal digits. Call once, last.
  std::string hex();

 private:
  void block(const unsigned char* bytes);

  std::array<std::uint32_t, 8> state_;
  std::array<unsigned char, 64> pending_;
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace plumb
