// SHA-256 (FIPS 180-4), fed in pieces.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace plumb {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(const void* data, std::size_t size);

  /// The digest of everything fed so far, 64 lower-case hexadecimal digits. Call once, last.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plumb
