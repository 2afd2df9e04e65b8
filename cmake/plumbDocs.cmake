# The target `docs`: the reference of include/plumb, in docs/api of the build directory. Needs Doxygen.
find_program(PLUMB_DOXYGEN doxygen)
if(PLUMB_DOXYGEN)
  add_custom_target(docs
    COMMAND "${CMAKE_COMMAND}" -E env "PLUMB_DOXYGEN=${PLUMB_DOXYGEN}"
      "${PROJECT_SOURCE_DIR}/docs/make_api.sh" "${PROJECT_BINARY_DIR}/docs/api"
    COMMENT "Reference of include/plumb, in docs/api"
    VERBATIM)
else()
  add_custom_target(docs
    COMMAND "${CMAKE_COMMAND}" -E echo "docs needs Doxygen: apt install doxygen, then configure again"
    COMMAND "${CMAKE_COMMAND}" -E false VERBATIM)
endif()
