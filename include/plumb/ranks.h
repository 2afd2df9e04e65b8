// The processes that share one experiment, started by mpirun.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

namespace plumb {

/// Processes of one experiment: this one is `rank()` of `size()`. A process alone is rank 0 of 1,
/// and needs no MPI. Not to be used from two threads at once.
class Ranks {
 public:
  /// Joins the others if this process was started by mpirun; at most once in a process. Throws
  /// unsupported if it was, but plumb was built without MPI.
  Ranks();
  /// Leaves in good order. Where the stack is unwound by an error, use `abort` instead.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  /// How many processes mpirun started: 1 without it. Asks the environment, not MPI.
  static int started();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// This process' share of the physical cores of its machine, at least 1.
  int threads() const;

  /// Hands a finished tile, float64 [n], to rank 0. From other ranks only.
  void send(std::int64_t tile, const at::Tensor& values);
  /// A tile that another rank sent, if one has arrived. On rank 0 only.
  std::optional<std::pair<std::int64_t, at::Tensor>> receive();
  /// Gives every rank the contents that rank 0 has: float64, of the same size on all.
  void share(at::Tensor& values);
  /// Ends all ranks with this exit code. Returns if this process is alone.
  void abort(int code);

 private:
  int rank_ = 0;
  int size_ = 1;
  int on_this_machine_ = 1;
};

}  // namespace plumb
