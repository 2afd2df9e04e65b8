// What the machine has and its libraries overlook.
#pragma once

#include <string>

namespace plumb {

/// OpenBLAS chooses its kernels when it is loaded, and takes processors younger than itself for
/// ones without vector units, on which everything is several times slower. The core type to ask for
/// (its environment variable OPENBLAS_CORETYPE) if that happened in this process; else empty.
std::string overlooked_blas_core();

/// To be called first in `main`: if OpenBLAS overlooked what the processor has, and the user asked
/// for no core type, starts the program again with the right one. Returns where nothing is to be
/// mended, or the program cannot be started again.
void restart_with_right_blas(char** argv);

}  // namespace plumb
