# Compiles one row of a kernel table (see FoveaCuda.cmake) and judges ptxas's messages about it.
#
#   cmake -DNVCC= -DTARGETS= -DROW= -DSHARED= -DSOURCE= -DIMAGE= -DROOT= -DREADY= -P CompileRow.cmake
#
# If the file READY is newer than all that the row is made from, it is copied instead.
#
# Prints a line per row: bytes, seconds, registers and shared memory. A spill, a stack frame or a
# warning C75xx (a matrix instruction that ptxas had to serialise) is an error, because all three are slow
# and no result shows them.
if(EXISTS ${READY} AND EXISTS ${READY}.d)
  file(READ ${READY}.d made_from)
  string(REGEX REPLACE "^[^:]*:" "" made_from "${made_from}")
  string(REPLACE "\\\n" " " made_from "${made_from}")
  separate_arguments(made_from UNIX_COMMAND "${made_from}")
  set(is_new ON)
  foreach(file IN LISTS made_from ITEMS ${ROOT}/cmake/CompileRow.cmake ${ROOT}/cmake/FoveaCuda.cmake)
    if(NOT EXISTS ${file} OR ${file} IS_NEWER_THAN ${READY})
      set(is_new OFF)
    endif()
  endforeach()
  if(is_new)
    file(COPY_FILE ${READY} ${IMAGE})
    list(JOIN made_from " " made_from)
    file(WRITE ${IMAGE}.d "${IMAGE}: ${made_from}\n")
    message(STATUS "${ROW}: copied from ${READY}")
    return()
  endif()
endif()

set(more)
if(NOT SHARED STREQUAL "")
  set(more -DFV_ROW_SHARED_BYTES=${SHARED})
endif()
string(TIMESTAMP begin "%s%f")
execute_process(
  COMMAND ${NVCC} -std=c++17 -O3 -lineinfo -I${ROOT} -fatbin --compress-mode=size -Xptxas -v ${TARGETS}
          -Werror all-warnings -DFV_ROW=${ROW} ${more} -MD -MF ${IMAGE}.d ${SOURCE} -o ${IMAGE}
  OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE code)
string(TIMESTAMP end "%s%f")
set(said "${output}${errors}")
if(code)
  file(REMOVE ${IMAGE})
  message(FATAL_ERROR "${ROW}: nvcc fails:\n${said}")
endif()

if(NOT said MATCHES "Used [0-9]+ registers")
  set(fault "ptxas does not say what it used")
elseif(said MATCHES "[1-9][0-9]* bytes spill")
  set(fault "registers are spilled")
elseif(said MATCHES "[1-9][0-9]* bytes stack frame")
  set(fault "something lies in local memory")
elseif(said MATCHES "C75[0-9][0-9]")
  set(fault "ptxas serialises matrix instructions")
endif()
if(fault)
  file(REMOVE ${IMAGE})
  message(FATAL_ERROR "${ROW}: ${fault}:\n${said}")
endif()

if(SHARED STREQUAL "")
  set(SHARED 0)
  if(said MATCHES "([0-9]+) bytes smem")
    set(SHARED ${CMAKE_MATCH_1})
  endif()
endif()
# Registers per architecture, in the order of the targets.
string(REGEX MATCHALL "Used [0-9]+ registers" used "${said}")
list(TRANSFORM used REPLACE "[^0-9]" "")
list(JOIN used "/" registers)
file(SIZE ${IMAGE} bytes)
math(EXPR hundredths "(${end} - ${begin}) / 10000")
math(EXPR seconds "${hundredths} / 100")
math(EXPR fraction "${hundredths} % 100")
if(fraction LESS 10)
  set(fraction "0${fraction}")
endif()
message(STATUS
  "${ROW}: ${bytes} bytes, ${seconds}.${fraction} s, ${registers} registers, ${SHARED} bytes of shared memory")
