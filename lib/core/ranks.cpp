#include "plumb/ranks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "core/parallel.h"
#include "plumb/error.h"

#ifdef PLUMB_MPI
#include <mpi.h>
#endif

namespace plumb {
// What the starters of OpenMPI and of the MPICH family tell their children.
int Ranks::started() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const char* text = std::getenv(name)) return std::max(1, std::atoi(text));
  }
  return 1;
}

int Ranks::threads() const { return std::max(1, physical_cores() / on_this_machine_); }

#ifdef PLUMB_MPI

namespace {

constexpr int kTileTag = 1;

int count_of(const at::Tensor& values) {
  if (values.numel() > std::numeric_limits<int>::max()) {
    throw Error(
        ErrorKind::too_large,
        fmt::format("{} numbers are too many for one message between ranks", values.numel()));
  }
  return static_cast<int>(values.numel());
}

}  // namespace

Ranks::Ranks() {
  if (started() == 1) return;
  int given = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &given) != MPI_SUCCESS ||
      given < MPI_THREAD_SERIALIZED) {
    throw Error(ErrorKind::unsupported,
                "this MPI does not let the threads of a process take turns; use another, or run "
                "without mpirun");
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm here = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &here);
  MPI_Comm_size(here, &on_this_machine_);
  MPI_Comm_free(&here);
}

Ranks::~Ranks() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised != 0) MPI_Finalize();
}

// The number of the tile travels in front of its values, as a double, which holds it exactly.
void Ranks::send(std::int64_t tile, const at::Tensor& values) {
  const at::Tensor number = at::full({1}, static_cast<double>(tile), at::kDouble);
  const at::Tensor message = at::cat({number, values.reshape({-1}).to(at::kDouble)});
  MPI_Send(message.data_ptr<double>(), count_of(message), MPI_DOUBLE, 0, kTileTag, MPI_COMM_WORLD);
}

std::optional<std::pair<std::int64_t, at::Tensor>> Ranks::receive() {
  if (size_ == 1) return std::nullopt;
  int there = 0;
  MPI_Status status;
  MPI_Iprobe(MPI_ANY_SOURCE, kTileTag, MPI_COMM_WORLD, &there, &status);
  if (there == 0) return std::nullopt;
  int count = 0;
  MPI_Get_count(&status, MPI_DOUBLE, &count);
  const at::Tensor message = at::empty({count}, at::kDouble);
  MPI_Recv(message.data_ptr<double>(), count, MPI_DOUBLE, status.MPI_SOURCE, kTileTag,
           MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return std::pair{static_cast<std::int64_t>(message[0].item<double>()),
                   message.narrow(0, 1, count - 1)};
}

void Ranks::share(at::Tensor& values) {
  if (size_ == 1) return;
  values = values.to(at::kDouble).contiguous();
  MPI_Bcast(values.data_ptr<double>(), count_of(values), MPI_DOUBLE, 0, MPI_COMM_WORLD);
}

void Ranks::abort(int code) {
  if (size_ > 1) MPI_Abort(MPI_COMM_WORLD, code);
}

#else

Ranks::Ranks() {
  if (started() > 1) {
    throw Error(ErrorKind::unsupported,
                "started by mpirun, but this plumb was built without MPI; install libopenmpi-dev "
                "and build again, or run without mpirun");
  }
}
Ranks::~Ranks() = default;
void Ranks::send(std::int64_t, const at::Tensor&) {}
std::optional<std::pair<std::int64_t, at::Tensor>> Ranks::receive() { return std::nullopt; }
void Ranks::share(at::Tensor&) {}
void Ranks::abort(int) {}

#endif

}  // namespace plumb
