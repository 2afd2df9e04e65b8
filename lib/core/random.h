// Seeded random numbers that are the same on every platform and standard library.
#pragma once

#include <cstdint>
#include <vector>

namespace plumb {

/// A splitmix64 stream. Equal seeds give equal streams; `fork` gives independent ones by number.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  double uniform();                        ///< in [0, 1), 53 bits
  std::int64_t below(std::int64_t bound);  ///< in [0, bound), unbiased; bound > 0
  double normal();                         ///< mean 0, variance 1 (Box and Muller)
  Random fork(std::uint64_t stream) const;
  std::vector<std::int64_t> permutation(std::int64_t n);

 private:
  std::uint64_t state_;
};

}  // namespace plumb
