# What an installed tree holds: the header, its description for bindings, both libraries, the package
# files for CMake and pkg-config, and the program with its manual pages and completion. The tree can be
# moved to another prefix afterwards, because no file holds an absolute path.
include(CMakePackageConfigHelpers)

install(TARGETS fovea fovea_static EXPORT fovea-targets
        ARCHIVE COMPONENT development
        LIBRARY COMPONENT library NAMELINK_COMPONENT development
        FILE_SET HEADERS COMPONENT development)

install(TARGETS fovea_layers fovea_layers_static EXPORT fovea-layers-targets
        ARCHIVE COMPONENT layers-development
        LIBRARY COMPONENT layers NAMELINK_COMPONENT layers-development
        FILE_SET HEADERS COMPONENT layers-development)
install(FILES layers/fovea-layers-abi.json
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT layers-development)

install(FILES include/fovea-abi.json DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fovea)
install(EXPORT fovea-targets NAMESPACE fovea:: DESTINATION ${package_dir} COMPONENT development)
install(EXPORT fovea-layers-targets NAMESPACE fovea:: DESTINATION ${package_dir}
        COMPONENT layers-development)
configure_package_config_file(
  cmake/fovea-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/fovea-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# While the major version is 0, a new minor version may break programs.
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/fovea-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fovea-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/fovea-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)

# The way from the folder of fovea.pc to the prefix, for whatever CMAKE_INSTALL_LIBDIR is.
cmake_path(SET pc_dir NORMALIZE "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig")
cmake_path(RELATIVE_PATH pc_dir BASE_DIRECTORY "/prefix" OUTPUT_VARIABLE pc_below_prefix)
string(REGEX REPLACE "[^/]+" ".." pc_to_prefix "${pc_below_prefix}")
configure_file(cmake/fovea.pc.in ${CMAKE_CURRENT_BINARY_DIR}/fovea.pc @ONLY)
configure_file(cmake/fovea-layers.pc.in ${CMAKE_CURRENT_BINARY_DIR}/fovea-layers.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fovea.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fovea-layers.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT layers-development)

if(TARGET fovea_manual_pages)
  set(made ${CMAKE_CURRENT_BINARY_DIR}/docs) # by cli/CMakeLists.txt
  install(FILES docs/man/fovea.1 ${made}/fovea-run.1 ${made}/fovea-validate.1 ${made}/fovea-map.1
                ${made}/fovea-info.1 ${made}/fovea-explain.1
          DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
  install(FILES ${made}/fovea.bash RENAME fovea
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT program)
endif()

# scripts/package makes the Debian packages libfovea0, libfovea-dev, libfovea-layers0,
# libfovea-layers-dev and fovea. fovea-bench depends on
# OpenBLAS, so only the build installs it.
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL library development layers layers-development)
if(FOVEA_BUILD_CLI)
  list(APPEND CPACK_COMPONENTS_ALL program)
endif()
set(CPACK_PACKAGE_NAME fovea)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "exact attention as a C library")
set(CPACK_PACKAGE_VENDOR "The fovea authors")
set(CPACK_PACKAGE_CONTACT "The fovea authors <fovea@example.org>")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(about "Exact attention in one call: paged caches, ragged batches, quantised keys and
values and every mask, on CPUs and NVIDIA GPUs, without a framework.")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libfovea${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian/triggers)
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "${about}
This package holds the shared library.")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libfovea-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libfovea${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}-1)")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "${about}
This package holds the header, its description for bindings, the static
library, and what CMake and pkg-config read.")
# dpkg-shlibdeps knows no package of libfovea.so.0 yet: it is told where the file is, and the package
# names it.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR}/csrc)
set(about_layers "Attention as a layer: projections, multi-head attention over one or several
sources, caches, pooling, additive scores, recurrent cells, on libfovea and a BLAS.")
set(CPACK_DEBIAN_LAYERS_PACKAGE_NAME libfovea-layers${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LAYERS_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LAYERS_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian/triggers)
set(CPACK_DEBIAN_LAYERS_PACKAGE_DEPENDS "libfovea${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}-1)")
set(CPACK_DEBIAN_LAYERS_DESCRIPTION "${about_layers}
This package holds the shared library.")
set(CPACK_DEBIAN_LAYERS-DEVELOPMENT_PACKAGE_NAME libfovea-layers-dev)
set(CPACK_DEBIAN_LAYERS-DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LAYERS-DEVELOPMENT_PACKAGE_DEPENDS
  "libfovea-dev (= ${PROJECT_VERSION}-1), libfovea-layers${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}-1)")
set(CPACK_DEBIAN_LAYERS-DEVELOPMENT_DESCRIPTION "${about_layers}
This package holds the header, its description for bindings, the static
library, and what CMake and pkg-config read.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME fovea)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "This package holds the program: it computes attention on files, judges a
device against double precision, and draws what a model attends to.")
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/FoveaPackage.cmake)
set(CPACK_FOVEA_DEBIAN_FILES ${CMAKE_CURRENT_SOURCE_DIR}/cmake/debian)
set(CPACK_FOVEA_DEBIAN_MADE ${CMAKE_CURRENT_BINARY_DIR})
configure_file(cmake/debian/changelog.in ${CMAKE_CURRENT_BINARY_DIR}/changelog.Debian @ONLY)
include(CPack)
