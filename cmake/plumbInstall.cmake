# Installs the library as a CMake package, relocatable as a whole, and the program.

include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/plumb")
install(TARGETS plumb EXPORT plumbTargets COMPONENT development)
install(DIRECTORY include/plumb DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development)
install(EXPORT plumbTargets NAMESPACE plumb:: DESTINATION "${package_dir}" COMPONENT development)

configure_package_config_file(cmake/plumbConfig.cmake.in plumbConfig.cmake
  INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(plumbConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/plumbConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/plumbConfigVersion.cmake"
    cmake/FindLibTorch.cmake
    cmake/plumbDependencies.cmake
  DESTINATION "${package_dir}" COMPONENT development)
if(TARGET plumb_cli)
  install(TARGETS plumb_cli COMPONENT program)
  install(FILES apps/plumb/shell/plumb.bash RENAME plumb COMPONENT program
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
  # The manual page is the program's own help, asked for when all is built.
  install(CODE "execute_process(COMMAND \"${PROJECT_SOURCE_DIR}/apps/plumb/shell/make_man.sh\"
      \"$<TARGET_FILE:plumb_cli>\" OUTPUT_FILE \"${PROJECT_BINARY_DIR}/plumb.1\"
      COMMAND_ERROR_IS_FATAL ANY)" COMPONENT program)
  install(FILES "${PROJECT_BINARY_DIR}/plumb.1" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1"
    COMPONENT program)
  install(FILES data/inputs/texts.txt DESTINATION "${CMAKE_INSTALL_DATADIR}/plumb/inputs"
    COMPONENT program)
endif()
