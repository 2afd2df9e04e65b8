#include "core/address_space.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::size_t kBuffer = std::size_t{128} << 20;  // OpenBLAS 0.3.21 on x86-64
constexpr std::size_t kRest = std::size_t{64} << 20;     // for what a small job takes beside it

/// Pieces of address space, mapped and given back. Nothing is touched, so no memory is taken.
class Trial {
 public:
  bool add(std::size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return false;
    pieces_.push_back({at, bytes});
    return true;
  }
  ~Trial() {
    for (const Piece& piece : pieces_) munmap(piece.at, piece.bytes);
  }

 private:
  struct Piece {
    void* at;
    std::size_t bytes;
  };
  std::vector<Piece> pieces_ = {};
};

}  // namespace

void check_room_for_blas(int threads) {
  if (threads == 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  Trial trial;
  bool fits = trial.add(kRest);
  for (int i = 0; i < threads && fits; ++i) fits = trial.add(kBuffer);
  if (fits) return;
  throw Error(
      ErrorKind::too_large,
      fmt::format("the process may not map the {} MB that matrix products on {} {} take; "
                  "raise the limit on its address space (ulimit -v), or give fewer --threads",
                  (kRest + kBuffer * static_cast<std::size_t>(threads)) >> 20, threads,
                  threads == 1 ? "thread" : "threads"));
}

}  // namespace plumb
