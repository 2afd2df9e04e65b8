#include "core/parallel.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace plumb {

namespace {

// OpenBLAS built with its own threads does not follow LibTorch's setting, so it is asked by name,
// where it is the BLAS in use.
void set_blas_threads(int threads) {
  using Setter = void (*)(int);
  static const auto setter =
      reinterpret_cast<Setter>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (setter != nullptr) setter(threads);
}

// Sets how many threads LibTorch's operations on the calling thread use. at::set_num_threads does
// it too, but tears down and rebuilds LibTorch's second pool, which nothing here uses, on every
// call: milliseconds, more than a small run takes.
void set_own_threads(int threads) {
  if (at::get_num_threads() == threads) return;  // The question also does LibTorch's lazy set-up.
#ifdef _OPENMP
  omp_set_num_threads(threads);
#else
  at::set_num_threads(threads);
#endif
}

// Restores LibTorch's thread count for the calling thread.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(at::get_num_threads()) {
    set_own_threads(threads);
    set_blas_threads(1);
  }
  ~ThreadScope() {
    set_own_threads(before_);
    set_blas_threads(before_);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace

int physical_cores() {
  static const int cores = [] {
    std::ifstream info("/proc/cpuinfo");
    std::set<std::pair<std::string, std::string>> seen;
    std::string line;
    std::string package;
    while (std::getline(info, line)) {
      const auto colon = line.find(':');
      if (colon == std::string::npos) continue;
      if (line.starts_with("physical id")) package = line.substr(colon);
      if (line.starts_with("core id")) seen.emplace(package, line.substr(colon));
    }
    const auto logical = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    return seen.empty() ? logical : std::min(logical, static_cast<int>(seen.size()));
  }();
  return cores;
}

void parallel_pieces(std::int64_t count, int threads,
                     const std::function<void(std::int64_t)>& work) {
  if (count <= 0) return;
  if (count == 1 || threads <= 1) {
    const ThreadScope scope(count == 1 ? std::max(1, threads) : 1);
    for (std::int64_t piece = 0; piece < count; ++piece) work(piece);
    return;
  }
  const ThreadScope scope(1);
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  const auto worker = [&] {
    set_own_threads(1);
    for (std::int64_t piece = next++; piece < count; piece = next++) {
      try {
        work(piece);
      } catch (...) {
        const std::lock_guard guard(failure_lock);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> pool;
  const auto workers = std::min<std::int64_t>(threads, count);
  for (std::int64_t i = 1; i < workers; ++i) pool.emplace_back(worker);
  worker();
  for (auto& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

// LibTorch's own at::parallel_for is a template whose OpenMP pragma takes effect only in sources
// compiled for OpenMP; this is the one such source. Its workers are those of LibTorch's
// element-wise operations, so that the two never compete for the cores.
void share(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  const int threads = static_cast<int>(std::min<std::int64_t>(count, at::get_num_threads()));
  if (threads <= 1) {
    for (std::int64_t piece = 0; piece < count; ++piece) work(piece);
    return;
  }
  std::exception_ptr failure;
  std::mutex failure_lock;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
#endif
  for (std::int64_t piece = 0; piece < count; ++piece) {
    try {
      work(piece);
    } catch (...) {
      const std::lock_guard guard(failure_lock);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace plumb
