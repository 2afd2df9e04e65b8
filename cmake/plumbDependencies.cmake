# Finds everything plumb links. Read by the build and by the installed package, so that both agree.

include(CMakeFindDependencyMacro)

# Libraries that come without a CMake package (or with one that is slow and wants a C compiler).
function(plumb_find_library target header library)
  cmake_parse_arguments(ARG "" "" "HEADER_DIRS" ${ARGN})
  if(TARGET ${target})
    return()
  endif()
  string(MAKE_C_IDENTIFIER "plumb_${target}" prefix)
  find_path(${prefix}_INCLUDE_DIR ${header} PATH_SUFFIXES ${ARG_HEADER_DIRS})
  find_library(${prefix}_LIBRARY NAMES ${library})
  mark_as_advanced(${prefix}_INCLUDE_DIR ${prefix}_LIBRARY)
  if(NOT ${prefix}_INCLUDE_DIR OR NOT ${prefix}_LIBRARY)
    message(FATAL_ERROR "plumb needs ${header} and its library; `make setup` installs them.")
  endif()
  add_library(${target} UNKNOWN IMPORTED)
  set_target_properties(${target} PROPERTIES
    IMPORTED_LOCATION "${${prefix}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${${prefix}_INCLUDE_DIR}")
endfunction()

find_dependency(LibTorch)
find_dependency(fmt)
find_dependency(nlohmann_json)
find_dependency(Threads)
find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT TARGET plumb::openmp)
  # The run-time library alone: one source is compiled for OpenMP, and users need not be. Where it is
  # missing, a lone sequence is multiplied on one core.
  add_library(plumb::openmp INTERFACE IMPORTED)
  if(OpenMP_CXX_FOUND)
    set_property(TARGET plumb::openmp PROPERTY INTERFACE_LINK_LIBRARIES "${OpenMP_CXX_LIBRARIES}")
  endif()
endif()
if(NOT DEFINED PLUMB_MPI OR PLUMB_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS CXX)
endif()
if(NOT TARGET plumb::mpi)
  # The library alone: one source uses it. Where it is missing, long experiments cannot be shared
  # among processes.
  add_library(plumb::mpi INTERFACE IMPORTED)
  if(MPI_CXX_FOUND)
    set_property(TARGET plumb::mpi PROPERTY INTERFACE_LINK_LIBRARIES "${MPI_CXX_LIBRARIES}")
  endif()
endif()
plumb_find_library(plumb::hdf5 hdf5.h "hdf5_serial;hdf5" HEADER_DIRS hdf5/serial)
plumb_find_library(plumb::crypto openssl/evp.h crypto)
plumb_find_library(plumb::pcre2 pcre2.h pcre2-8)
plumb_find_library(plumb::utf8proc utf8proc.h utf8proc)
