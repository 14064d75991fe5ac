# The CUDA kernels: finds nvcc, compiles each row of kernels/shared/*.def to an image of its own, and makes
# an assembler source that embeds the images. Sets FOVEA_HAS_CUDA and, if that is ON,
#
#   FOVEA_CUDA_INCLUDE   the folder of cuda.h
#   FOVEA_CUDA_ASSEMBLY  the source that embeds the images, as fv_image_<row>
#
# -DFOVEA_CUDA=AUTO (kernels if there is a compiler), ON (an error if there is none), OFF.
# Only headers and the compiler are used: the driver is opened at run time, the runtime never.
set(FOVEA_CUDA AUTO CACHE STRING "CUDA kernels: AUTO (if there is an nvcc), ON or OFF")
set_property(CACHE FOVEA_CUDA PROPERTY STRINGS AUTO ON OFF)
# No compiler of the host and no sanitizer changes a kernel.
set(FOVEA_IMAGES "" CACHE PATH "The images of another build of this tree: taken from there while they are new")
set(FOVEA_HAS_CUDA OFF)

# FOVEA_NVCC comes first if it is set, then the compiler that scripts/setup installs, then the machine's.
function(fovea_find_nvcc)
  file(GLOB own ${PROJECT_SOURCE_DIR}/.cuda/lib/python3*/site-packages/nvidia/cu13/bin)
  find_program(FOVEA_NVCC nvcc HINTS ${own} NO_DEFAULT_PATH DOC "The CUDA compiler, 13.0 or newer")
  find_program(FOVEA_NVCC nvcc HINTS $ENV{CUDA_PATH}/bin NO_DEFAULT_PATH)
  find_program(FOVEA_NVCC nvcc)
  find_program(FOVEA_NVCC nvcc HINTS /usr/local/cuda/bin NO_DEFAULT_PATH)
endfunction()

# Why this compiler can't be used; empty if it can. The driver must know its PTX 9.0, which came with 13.0.
function(fovea_judge_nvcc reason)
  set(${reason} "" PARENT_SCOPE)
  if(NOT FOVEA_NVCC)
    set(${reason} "there is no nvcc; scripts/setup installs one, or set FOVEA_NVCC" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${FOVEA_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE code)
  if(code OR NOT text MATCHES "release ([0-9]+\\.[0-9]+)")
    set(${reason} "${FOVEA_NVCC} --version fails" PARENT_SCOPE)
  elseif(CMAKE_MATCH_1 VERSION_LESS 13.0)
    set(${reason} "${FOVEA_NVCC} is release ${CMAKE_MATCH_1}, and the kernels need 13.0" PARENT_SCOPE)
  endif()
endfunction()

if(FOVEA_CUDA)
  fovea_find_nvcc()
  fovea_judge_nvcc(no_cuda)
  if(NOT no_cuda)
    file(REAL_PATH ${FOVEA_NVCC} real_nvcc)
    cmake_path(GET real_nvcc PARENT_PATH nvcc_folder)
    find_path(FOVEA_CUDA_INCLUDE cuda.h NO_DEFAULT_PATH
              HINTS ${nvcc_folder}/../include ${nvcc_folder}/../targets/x86_64-linux/include
              DOC "The folder of cuda.h")
    if(NOT FOVEA_CUDA_INCLUDE)
      set(no_cuda "there is no cuda.h beside ${FOVEA_NVCC}; set FOVEA_CUDA_INCLUDE")
    endif()
  endif()
  if(NOT no_cuda)
    set(FOVEA_HAS_CUDA ON)
  elseif(FOVEA_CUDA STREQUAL AUTO)
    message(STATUS "fovea: no CUDA kernels: ${no_cuda}")
  else()
    message(FATAL_ERROR "FOVEA_CUDA is ${FOVEA_CUDA}, but ${no_cuda}")
  endif()
else()
  message(STATUS "fovea: no CUDA kernels: FOVEA_CUDA is ${FOVEA_CUDA}")
endif()

if(NOT FOVEA_HAS_CUDA)
  return()
endif()
message(STATUS "fovea: CUDA kernels by ${FOVEA_NVCC}")
enable_language(ASM)

# The mma.sync family. 8.x and 9.0 run without compilation at load; later devices use the PTX.
set(FOVEA_SM80_FAMILY 80 90)
set(FOVEA_SM80_TARGETS -gencode arch=compute_80,code=[sm_80,compute_80]
                       -gencode arch=compute_90,code=[sm_90,compute_90])

# FV_ATTENTION_SHARED_BYTES: the kernel asserts it.
function(fovea_shared_bytes bytes dim dim_v tile_q tile_kv stages kv_bytes)
  set(narrow_keys 128)
  if(dim GREATER 128)
    set(narrow_keys 64)
  endif()
  set(scales 0)
  if(kv_bytes EQUAL 1)
    math(EXPR wide "2 * ${dim} * ${tile_q} + 3 * ${tile_kv} * (${dim} + ${dim_v})")
    math(EXPR narrow "2 * ${dim} * 16 + ${narrow_keys} * (3 * ${dim} + ${dim_v})")
    math(EXPR scales "24 * ${narrow_keys}")  # a tile has fewer keys
  else()
    math(EXPR wide "2 * (${dim} * ${tile_q} + ${stages} * ${tile_kv} * (${dim} + ${dim_v}))")
    math(EXPR narrow "2 * (${dim} * 16 + ${narrow_keys} * (${dim} + ${dim_v}))")
  endif()
  if(narrow GREATER wide)
    set(wide ${narrow})
  endif()
  math(EXPR sum "${wide} + ${scales} + 384 + 8 * ${tile_q}")
  set(${bytes} ${sum} PARENT_SCOPE)
endfunction()

# Compiles the rows of kernels/shared/<table>.def, each from kernels/<source>.cu, and appends to the
# variables images and assembly.
function(fovea_compile_rows table source)
  set(definition ${PROJECT_SOURCE_DIR}/kernels/shared/${table}.def)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${definition})
  file(STRINGS ${definition} rows REGEX "^FV_[A-Z_]+_ROW\\(")
  foreach(line IN LISTS rows)
    # The fields without blanks; the first is the name.
    string(REGEX REPLACE "^FV_[A-Z_]+_ROW\\(|\\).*$| " "" fields "${line}")
    string(REPLACE "," ";" fields "${fields}")
    list(GET fields 0 row)
    set(shared)  # shared memory that a launch asks for; ptxas tells only what the kernel declares
    if(table STREQUAL attention_fwd)
      list(GET fields 2 dim)
      list(GET fields 3 dim_v)
      list(GET fields 4 tile_q)
      list(GET fields 5 tile_kv)
      list(GET fields 7 stages)
      list(GET fields 10 kv_bytes)
      fovea_shared_bytes(shared ${dim} ${dim_v} ${tile_q} ${tile_kv} ${stages} ${kv_bytes})
    endif()
    set(image ${PROJECT_BINARY_DIR}/images/${row}.fatbin)
    add_custom_command(OUTPUT ${image}
      COMMAND ${CMAKE_COMMAND} -DNVCC=${FOVEA_NVCC} "-DTARGETS=${FOVEA_SM80_FAMILY}" -DROW=${row}
              -DSHARED=${shared} -DREADY=${FOVEA_IMAGES}/${row}.fatbin
              -DSOURCE=${PROJECT_SOURCE_DIR}/kernels/${source}.cu -DIMAGE=${image}
              -DROOT=${PROJECT_SOURCE_DIR}
              -P ${PROJECT_SOURCE_DIR}/cmake/CompileRow.cmake
      DEPENDS ${PROJECT_SOURCE_DIR}/kernels/${source}.cu ${PROJECT_SOURCE_DIR}/cmake/CompileRow.cmake
      DEPFILE ${image}.d COMMENT "" VERBATIM)
    list(APPEND images ${image})
    string(APPEND assembly "
  .globl fv_image_${row}
  .hidden fv_image_${row}
  .balign 64
fv_image_${row}:
  .incbin \"${image}\"
")
  endforeach()
  set(images ${images} PARENT_SCOPE)
  set(assembly "${assembly}" PARENT_SCOPE)
endfunction()

set(images)
set(assembly "/* Made by cmake/FoveaCuda.cmake: the images of all kernels, read only. */
  .section .rodata
")
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/images)
fovea_compile_rows(attention_fwd attention_fwd_sm80)
fovea_compile_rows(attention_prepare attention_prepare_sm80)
fovea_compile_rows(kv_append kv_append_sm80)
fovea_compile_rows(merge merge_sm80)
string(APPEND assembly "  .section .note.GNU-stack,\"\",%progbits\n")
set(FOVEA_CUDA_ASSEMBLY ${PROJECT_BINARY_DIR}/images/kernel_images.S)
file(CONFIGURE OUTPUT ${FOVEA_CUDA_ASSEMBLY} CONTENT "${assembly}" @ONLY)
set(FOVEA_CUDA_IMAGES ${images})
# CMake's rules for files hold in one folder only, so targets that embed the images depend on this.
add_custom_target(fovea_images DEPENDS ${images})
