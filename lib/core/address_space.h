// Room that a library underneath takes without asking.
#pragma once

namespace plumb {

/// Throws too_large where the buffers of OpenBLAS, one for each thread that multiplies matrices at
/// the same time, cannot be mapped: it would ask for one again and again, without end. 0 threads:
/// one for each processor.
void check_room_for_blas(int threads);

}  // namespace plumb
