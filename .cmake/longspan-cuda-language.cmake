# SPDX-License-Identifier: Apache-2.0
# Makes CUDA C++20 a language of the project that includes this, if there is a compiler for it. Travels with the installed package:
# CMake before 3.25.2 does not know that nvcc 12 and later take -std=c++20, in a user's project as little as here.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
    # The architecture must stand before the language: the user's, else that of the GPU in this machine, else Hopper's with wgmma.
    # (Without one CMake takes sm_75, and `native` without a GPU is an error.)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
        execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE longspan_gpu
                        RESULT_VARIABLE longspan_no_gpu ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
        if(longspan_no_gpu EQUAL 0 AND longspan_gpu MATCHES "^([0-9]+)\\.([0-9]+)")
            set(CMAKE_CUDA_ARCHITECTURES "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
        else()
            set(CMAKE_CUDA_ARCHITECTURES 90a)
        endif()
    endif()
    # Hopper's own instructions are those of 90a; a build for plain 90 would leave them out.
    list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "^90(-real|-virtual)?$" "90a\\1")
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
        set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
        set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
        list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
        list(APPEND CMAKE_CUDA20_COMPILE_FEATURES cuda_std_20)
    endif()
endif()
