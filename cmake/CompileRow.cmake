# Compiles one row of a kernel table (see FoveaCuda.cmake) and judges ptxas's messages about it.
#
#   cmake -DNVCC= -DTARGETS= -DROW= -DSHARED= -DSOURCE= -DIMAGE= -DROOT= -DREADY= -P CompileRow.cmake
#
# If the file READY is newer than all that the row is made from, it is copied instead.
#
# An image holds machine code and PTX for each of TARGETS. The PTX has the lines of its source, which the
# software GPU names; the machine code has not, which halves the library.
#
# ptxas optimises at level 3, unless that spills: then at level 1, which loads less far ahead and needs
# some tens of registers less, for about as many instructions.
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

cmake_path(GET NVCC PARENT_PATH tools)
set(more)
if(NOT SHARED STREQUAL "")
  set(more -DFV_ROW_SHARED_BYTES=${SHARED})
endif()

function(run_step what)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE code)
  if(code)
    file(REMOVE ${IMAGE})
    message(FATAL_ERROR "${ROW}: ${what} fails:\n${output}${errors}")
  endif()
  set(said "${output}${errors}" PARENT_SCOPE)
endfunction()

# Makes machine code at one level of optimisation. `fault` says what is wrong with it.
function(assemble target level)
  run_step(ptxas ${tools}/ptxas -v -O${level} -arch=sm_${target} --generate-line-info --suppress-debug-info
           ${IMAGE}.${target}.ptx -o ${IMAGE}.${target}.cubin)
  set(fault)
  if(NOT said MATCHES "Used [0-9]+ registers")
    set(fault "ptxas does not say what it used")
  elseif(said MATCHES "[1-9][0-9]* bytes spill")
    set(fault "registers are spilled")
  elseif(said MATCHES "[1-9][0-9]* bytes stack frame")
    set(fault "something lies in local memory")
  elseif(said MATCHES "C75[0-9][0-9]")
    set(fault "ptxas serialises matrix instructions")
  endif()
  set(fault "${fault}" PARENT_SCOPE)
  set(said "${said}" PARENT_SCOPE)
endfunction()

string(TIMESTAMP begin "%s%f")
set(parts)
set(made)
set(used)
foreach(target IN LISTS TARGETS)
  run_step(nvcc ${NVCC} -std=c++17 -O3 -lineinfo -I${ROOT} -ptx -arch=compute_${target} -Werror all-warnings
           -DFV_ROW=${ROW} ${more} -MD -MF ${IMAGE}.d -MT ${IMAGE} ${SOURCE} -o ${IMAGE}.${target}.ptx)
  set(level 3)
  assemble(${target} 3)
  if(fault)
    set(level 1)
    assemble(${target} 1)
  endif()
  if(fault)
    file(REMOVE ${IMAGE})
    message(FATAL_ERROR "${ROW}, sm_${target}: ${fault}:\n${said}")
  endif()
  string(REGEX MATCH "Used ([0-9]+) registers" used_here "${said}")
  list(APPEND used "${CMAKE_MATCH_1} (-O${level})")
  list(APPEND parts --image3=kind=elf,sm=${target},file=${IMAGE}.${target}.cubin
                    --image3=kind=ptx,sm=${target},file=${IMAGE}.${target}.ptx)
  list(APPEND made ${IMAGE}.${target}.cubin ${IMAGE}.${target}.ptx)
endforeach()
run_step(fatbinary ${tools}/fatbinary --create=${IMAGE} -64 --compress-mode=size ${parts})
file(REMOVE ${made})
string(TIMESTAMP end "%s%f")

if(SHARED STREQUAL "")
  set(SHARED 0)
  if(said MATCHES "([0-9]+) bytes smem")
    set(SHARED ${CMAKE_MATCH_1})
  endif()
endif()
list(JOIN used " / " registers)
file(SIZE ${IMAGE} bytes)
math(EXPR hundredths "(${end} - ${begin}) / 10000")
math(EXPR seconds "${hundredths} / 100")
math(EXPR fraction "${hundredths} % 100")
if(fraction LESS 10)
  set(fraction "0${fraction}")
endif()
message(STATUS
  "${ROW}: ${bytes} bytes, ${seconds}.${fraction} s, ${registers} registers, ${SHARED} bytes of shared memory")
