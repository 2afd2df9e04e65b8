// Independent pieces of work on a few threads, with single-threaded matrix products in each.
#pragma once

#include <cstdint>
#include <functional>

namespace plumb {

/// Physical cores of this machine, at least 1.
int physical_cores();

/// Calls work(0), ..., work(count - 1), each once, on up to `threads` threads. Several pieces: each
/// thread runs its pieces with one-threaded tensor operations. One piece: it runs on the calling
/// thread, and LibTorch may use `threads` threads for element-wise work, but never for one matrix
/// product: the BLAS rounds differently for another number of threads. The first exception is
/// rethrown here after all threads have stopped. Thread counts of LibTorch and of its BLAS are
/// restored.
void parallel_pieces(std::int64_t count, int threads,
                     const std::function<void(std::int64_t)>& work);

/// Inside a piece that runs alone: calls work(0), ..., work(count - 1), each once, on the threads
/// that LibTorch uses for element-wise work. Inside one of several pieces: on this thread. Tensor
/// operations in `work` run single-threaded. The first exception is rethrown here.
void share(std::int64_t count, const std::function<void(std::int64_t)>& work);

}  // namespace plumb
