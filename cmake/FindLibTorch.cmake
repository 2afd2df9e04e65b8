# Finds LibTorch and offers it as the target LibTorch::LibTorch (CPU, and CUDA where the build has it).
#
# Looked for in the variable or environment variable TORCH, the directory of a `torch` Python package
# (it holds include/ and lib/), else among the system's packages. LibTorch's own CMake package is not
# used: in a CUDA build it insists on a CUDA toolkit, and in Debian's it prints pages of warnings.

if(NOT TORCH AND DEFINED ENV{TORCH})
  set(TORCH "$ENV{TORCH}")
endif()

unset(LibTorch_INCLUDE_DIR CACHE)
foreach(name IN ITEMS torch_cpu c10 torch_cuda c10_cuda)
  unset(LibTorch_${name}_LIBRARY CACHE)
endforeach()

if(TORCH)
  get_filename_component(TORCH "${TORCH}" ABSOLUTE BASE_DIR "${CMAKE_BINARY_DIR}")
  set(_torch_where PATHS "${TORCH}" NO_DEFAULT_PATH)
else()
  set(_torch_where)
endif()
find_path(LibTorch_INCLUDE_DIR ATen/ATen.h ${_torch_where} PATH_SUFFIXES include)
foreach(name IN ITEMS torch_cpu c10)
  find_library(LibTorch_${name}_LIBRARY ${name} ${_torch_where} PATH_SUFFIXES lib)
endforeach()
if(TORCH)
  foreach(name IN ITEMS torch_cuda c10_cuda)
    find_library(LibTorch_${name}_LIBRARY ${name} ${_torch_where} PATH_SUFFIXES lib)
  endforeach()
endif()
unset(_torch_where)

set(LibTorch_VERSION "")
foreach(_torch_header IN ITEMS
    torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(EXISTS "${LibTorch_INCLUDE_DIR}/${_torch_header}" AND NOT LibTorch_VERSION)
    file(STRINGS "${LibTorch_INCLUDE_DIR}/${_torch_header}" _torch_numbers
      REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]")
    string(REGEX REPLACE "[^0-9;]" "" _torch_numbers "${_torch_numbers}")
    string(REPLACE ";" "." LibTorch_VERSION "${_torch_numbers}")
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "Install libtorch-dev (make setup), or point TORCH at a torch package.")
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY
  LibTorch_torch_cuda_LIBRARY LibTorch_c10_cuda_LIBRARY)

# LibTorch 1.13 uses std::vector<c10::IValue> before c10::IValue is complete. GCC puts up with it;
# Clang, for which the members of a C++20 vector are constexpr, does not.
if(LibTorch_FOUND AND CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND LibTorch_VERSION VERSION_LESS 2)
  message(FATAL_ERROR "Clang cannot compile the headers of LibTorch ${LibTorch_VERSION} as C++20; "
    "use GCC, or point TORCH at a torch package of 2.6 or newer.")
endif()

if(LibTorch_FOUND AND TORCH)
  # Older wheels were built with the old std::string, which no system library of today shares.
  file(STRINGS "${LibTorch_c10_LIBRARY}" _torch_new_abi REGEX "3c107.*__cxx11" LIMIT_COUNT 1)
  if(NOT _torch_new_abi)
    message(FATAL_ERROR
      "The LibTorch in ${TORCH} was built with the old C++ ABI; use the wheel of torch 2.6 or newer.")
  endif()
endif()

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  set(_torch_include "${LibTorch_INCLUDE_DIR}")
  if(TORCH)
    # A wheel's include/ also holds copies of fmt and others, which would hide the system's: show
    # the compiler LibTorch's own headers only.
    set(_torch_include "${CMAKE_BINARY_DIR}/libtorch_include")
    file(REMOVE_RECURSE "${_torch_include}")
    file(MAKE_DIRECTORY "${_torch_include}")
    foreach(_torch_dir IN ITEMS ATen c10 caffe2 torch)
      file(CREATE_LINK "${LibTorch_INCLUDE_DIR}/${_torch_dir}" "${_torch_include}/${_torch_dir}"
        SYMBOLIC)
    endforeach()
  endif()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch INTERFACE
    "${_torch_include}" "${_torch_include}/torch/csrc/api/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE
    "${LibTorch_torch_cpu_LIBRARY}" "${LibTorch_c10_LIBRARY}")
  if(TORCH)
    # The wheel's libraries name companions (CUDA runtime and the like) that only it can find.
    target_link_options(LibTorch::LibTorch INTERFACE
      "LINKER:-rpath,${TORCH}/lib" "LINKER:--allow-shlib-undefined")
  endif()
  if(LibTorch_torch_cuda_LIBRARY AND LibTorch_c10_cuda_LIBRARY)
    # Nothing refers to these by symbol: they register the CUDA kernels when they are loaded.
    target_link_libraries(LibTorch::LibTorch INTERFACE
      "-Wl,--push-state,--no-as-needed,${LibTorch_torch_cuda_LIBRARY},${LibTorch_c10_cuda_LIBRARY},--pop-state")
  endif()
endif()
