# SPDX-License-Identifier: Apache-2.0
# The kernels of csrc/cuda/, made by nvcc for GPUs and (DLCORE_EMULATE) by the host's compiler for the emulator.
file(GLOB cuda_kernels CONFIGURE_DEPENDS csrc/cuda/*.cu csrc/cuda/gemm/*.cu)
list(REMOVE_ITEM cuda_kernels ${CMAKE_SOURCE_DIR}/csrc/cuda/device.cu)
# Files of instructions that one kind of GPU alone has are named for it, such as gemm/wgmma.90a.cu, and compiled for it
# alone: their PTX would run nowhere else.
set(cuda_special 90a 100f)
foreach(arch IN LISTS cuda_special)
  file(GLOB cuda_${arch} CONFIGURE_DEPENDS csrc/cuda/*.${arch}.cu csrc/cuda/gemm/*.${arch}.cu)
  list(REMOVE_ITEM cuda_kernels ${cuda_${arch}})
endforeach()
set(cuda_host csrc/cuda/backend.cpp csrc/cuda/table.cpp)

# ---- GPUs
set(cuda_found OFF)
if(NOT DLCORE_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(cuda_found ON)
  elseif(DLCORE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DLCORE_CUDA=ON: expected nvcc, got none; set CUDACXX or put it on PATH")
  else()
    message(STATUS "dlcore: no nvcc found, building without CUDA")
  endif()
endif()

if(cuda_found)
  set(archs ${DLCORE_CUDA_ARCHS})
  if(NOT archs)
    execute_process(
      COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE archs ERROR_QUIET RESULT_VARIABLE failed)
    if(failed OR NOT archs)
      set(archs 90)
    endif()
    string(REGEX REPLACE "[.]" "" archs "${archs}")
    string(REGEX MATCHALL "[0-9]+" archs "${archs}")
  elseif(archs STREQUAL "all")
    set(archs 75 80 86 89 90 100 120)
  endif()
  string(REPLACE "," ";" archs "${archs}")
  list(REMOVE_DUPLICATES archs)
  list(GET archs -1 newest)
  list(TRANSFORM archs APPEND "-real" OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual) # for GPUs newer than all of them
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  enable_language(CUDA)
  set_target_properties(_core PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
  list(JOIN archs "," arch_names)
  message(STATUS "dlcore: CUDA kernels for ${arch_names}")

  function(add_cuda_objects name)
    add_library(${name} OBJECT ${ARGN})
    target_compile_definitions(
      ${name} PRIVATE DLCORE_FOLDER=cuda DLCORE_ISA=cuda_f32 DLCORE_REAL_F64=0 DLCORE_CUDA_ARCHS="${arch_names}")
    # Explicit fma alone is contracted, as on the CPU.
    target_compile_options(
      ${name}
      PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false --compress-mode=size -Xcompiler=-Wall,-Wextra>
              $<$<AND:$<BOOL:${DLCORE_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>
              $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra $<$<BOOL:${DLCORE_WERROR}>:-Werror>>)
    target_link_libraries(_core PRIVATE ${name})
  endfunction()
  add_cuda_objects(dlcore_cuda ${cuda_kernels} ${cuda_host} csrc/cuda/device.cu csrc/cuda/present.cpp)
  foreach(arch IN LISTS cuda_special)
    string(REGEX MATCH "[0-9]+" generic ${arch})
    if(cuda_${arch} AND generic IN_LIST archs)
      add_cuda_objects(dlcore_cuda_${arch} ${cuda_${arch}})
      set_target_properties(dlcore_cuda_${arch} PROPERTIES CUDA_ARCHITECTURES ${arch}-real)
      target_compile_definitions(dlcore_cuda PRIVATE DLCORE_CUDA_${arch}=1)
    endif()
  endforeach()
else()
  target_sources(_core PRIVATE csrc/cuda/absent.cpp)
endif()

# ---- the emulator
if(DLCORE_EMULATE)
  add_subdirectory(csrc/cuda/emulator)
  target_link_libraries(_core PRIVATE dlcore_emulated)
else()
  target_sources(_core PRIVATE csrc/cuda/emulator/absent.cpp)
endif()
