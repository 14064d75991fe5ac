# What a Debian package needs beyond the installed files. CPack runs this after it has put the components
# into their folders, and before it packs them. Manual pages are compressed, the static library loses its
# debugging symbols, and each package gets its copyright and its changelog.
find_program(gzip gzip REQUIRED)
find_program(strip strip REQUIRED)

function(fovea_compress)
  if(ARGN)
    execute_process(COMMAND ${gzip} -9nf ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
  endif()
endfunction()

foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} upper)
  set(root ${CPACK_TEMPORARY_DIRECTORY}/${component}/usr)
  set(documents ${root}/share/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  file(GLOB manuals ${root}/share/man/man1/*.1)
  fovea_compress(${manuals})
  file(GLOB_RECURSE archives ${root}/lib/*.a)
  if(archives)
    execute_process(COMMAND ${strip} --strip-debug --remove-section=.comment --remove-section=.note
                            --enable-deterministic-archives ${archives} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  file(COPY ${CPACK_FOVEA_DEBIAN_FILES}/copyright DESTINATION ${documents})
  file(COPY ${CPACK_FOVEA_DEBIAN_MADE}/changelog.Debian DESTINATION ${documents})
  fovea_compress(${documents}/changelog.Debian)
endforeach()
