# The flags that every target of the project is compiled with. Targets link to fovea_flags, privately.
#
# An include of the tree's own headers is a path from the root, "csrc/host/sequence.h". So the line says
# which folder it looks into, and two folders may use the same name. The public header is <fovea.h>, as
# users write it.
#
# -ffp-contract=off: a product and a sum are fused only where the source says so. The same source then
# gives the same bits with every compiler and at every level of optimisation.
add_library(fovea_flags INTERFACE)
target_include_directories(fovea_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_options(fovea_flags INTERFACE
  -Wall -Wextra -ffp-contract=off -fvisibility=hidden
  $<$<BOOL:${FOVEA_WERROR}>:-Werror>)

if(FOVEA_SANITIZE)
  # Errors end the program, because nobody reads a report that scrolls by in a green run.
  target_compile_options(fovea_flags INTERFACE
    -fsanitize=${FOVEA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(fovea_flags INTERFACE -fsanitize=${FOVEA_SANITIZE})
endif()
