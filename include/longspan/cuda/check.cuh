// SPDX-License-Identifier: Apache-2.0
//
// CUDA's return codes as exceptions, and the checks at the door of an op that takes device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include <longspan/core/view.hpp>
#include <longspan/cuda/device_error.hpp>

namespace longspan::cuda {

/// Throws device_error unless `code` is success.
inline void check(cudaError_t code, const char* op, bytes asked = 0) {
    if (code != cudaSuccess) throw device_error(op, cudaGetErrorName(code), cudaGetErrorString(code), asked);
}

/// After a kernel launch: throws when it could not be launched. Does not wait for it.
inline void check_launch(const char* op) { check(cudaGetLastError(), op); }

/// Throws bad_argument unless a device pointer is there and a multiple of `alignment` bytes.
inline void expect_pointer(const char* op, const char* what, const void* pointer, index alignment) {
    expects(pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(alignment) == 0, [&] {
        return std::string(op) + ": expected " + what + " at a multiple of " + std::to_string(alignment) + " bytes, got " +
               (pointer == nullptr ? "a null pointer" : "address " + std::to_string(reinterpret_cast<std::uintptr_t>(pointer)));
    });
}

/// Throws bad_argument unless the view is [rows, columns], and every row starts at a multiple of `alignment` bytes.
template <class T>
void expect_view(const char* op, const char* what, const matrix_view<T>& view, index rows, index columns, index alignment = sizeof(T)) {
    expects(view.rows == rows && view.columns == columns && view.stride >= columns, [&] {
        return std::string(op) + ": expected " + what + " of [" + std::to_string(rows) + ", " + std::to_string(columns) + "], got [" +
               std::to_string(view.rows) + ", " + std::to_string(view.columns) + "] with a stride of " + std::to_string(view.stride);
    });
    if (rows == 0 || columns == 0) return;
    expect_pointer(op, what, view.data, alignment);
    expects(view.stride * static_cast<index>(sizeof(T)) % alignment == 0 || rows == 1, [&] {
        return std::string(op) + ": expected rows of " + what + " at multiples of " + std::to_string(alignment) + " bytes, got a stride of " +
               std::to_string(view.stride) + " elements";
    });
}

}  // namespace longspan::cuda
