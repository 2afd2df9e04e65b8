#include "plumb/machine.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace plumb {
namespace {

constexpr const char* kCoreType = "OPENBLAS_CORETYPE";

// Cores that OpenBLAS falls back to: none of them has AVX.
bool is_fallback(const std::string& core) {
  for (const char* name : {"Prescott", "Core2", "Generic", "generic", "Unknown"}) {
    if (core == name) return true;
  }
  return false;
}

// The best core type that every OpenBLAS with run-time dispatch of the last years knows.
std::string best_core() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return {};
}

}  // namespace

std::string overlooked_blas_core() {
  using NameOfCore = char* (*)();
  const auto name = reinterpret_cast<NameOfCore>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  if (name == nullptr || !is_fallback(name())) return {};
  return best_core();
}

void restart_with_right_blas(char** argv) {
  if (std::getenv(kCoreType) != nullptr) return;  // also keeps the second start from a third
  const std::string core = overlooked_blas_core();
  if (core.empty()) return;
  setenv(kCoreType, core.c_str(), 1);
  execv("/proc/self/exe", argv);
  unsetenv(kCoreType);
}

}  // namespace plumb
