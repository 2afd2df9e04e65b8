# How plumb's own sources are compiled: warnings, compiler cache.

# A target of its own, linked privately, so that users of the library do not inherit our taste.
add_library(plumb_warnings INTERFACE)
target_compile_options(plumb_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  # GCC 12 reports the inactive members of a moved std::variant, and std::string built by operator+,
  # as uninitialised or out of bounds.
  target_compile_options(plumb_warnings INTERFACE
    -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-restrict)
endif()
if(PLUMB_WARNINGS_AS_ERRORS)
  target_compile_options(plumb_warnings INTERFACE -Werror)
endif()

if(PLUMB_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "PLUMB_FUZZ needs Clang, whose libFuzzer drives the fuzzers.")
  endif()
  # Without `vptr`, which would ask LibTorch for type information that it does not export.
  set(plumb_fuzz_sanitizers
    -fsanitize=address,undefined,float-cast-overflow -fno-sanitize=vptr -fno-sanitize-recover=all)
  add_compile_options(${plumb_fuzz_sanitizers} -fsanitize=fuzzer-no-link -fno-omit-frame-pointer)
  add_link_options(${plumb_fuzz_sanitizers})
endif()

find_program(PLUMB_CCACHE ccache)
mark_as_advanced(PLUMB_CCACHE)
if(PLUMB_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # ccache trusts a precompiled header only when told to overlook its time stamps and macros.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
    "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime"
    "${PLUMB_CCACHE}")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
    add_compile_options(-fpch-preprocess)
  endif()
endif()
