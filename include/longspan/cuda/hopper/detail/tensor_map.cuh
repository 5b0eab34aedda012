// SPDX-License-Identifier: Apache-2.0
//
// How the copy engine is told of a matrix: [rows, columns] as boxes of some rows by whole panels of 64 columns, 128-byte swizzle,
// coordinates (0, row, panel). What lies outside arrives as 0. Made on the host at every call, by the driver, in about a
// microsecond; a kernel takes it as a parameter, so a captured graph keeps it.
#pragma once

#include <cuda.h>

#include <string>
#include <type_traits>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::hopper::detail {

/// The numbers of a tensor map.
struct tensor_map_shape {
    std::uint64_t extent[3];
    std::uint64_t stride[2];  // bytes
    std::uint32_t box[3];
};
[[nodiscard]] constexpr tensor_map_shape tensor_map_of(index rows, index columns, index stride, int box_rows, int box_columns) {
    return {{64, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns / 64)},
            {static_cast<std::uint64_t>(stride) * 2, 128},
            {64, static_cast<std::uint32_t>(box_rows), static_cast<std::uint32_t>(box_columns / 64)}};
}

[[nodiscard]] inline auto tensor_map_encoder(const char* op) {
    static const auto encode = [&] {
        void* entry = nullptr;
        cudaDriverEntryPointQueryResult found{};
        check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found), op);
        expects(found == cudaDriverEntryPointSuccess && entry != nullptr,
                [&] { return std::string(op) + ": expected a driver of CUDA 12 or newer, with cuTensorMapEncodeTiled"; });
        return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
    }();
    return encode;
}

template <class T>
[[nodiscard]] CUtensorMap make_tensor_map(const char* op, matrix_view<T> view, int box_rows, int box_columns) {
    static_assert(sizeof(T) == 2);
    CUtensorMap map{};
    if (view.rows == 0) return map;
    // One row: its stride does not matter, but must be one that the encoder takes.
    const index stride = view.rows == 1 ? round_up(view.columns, 64) : view.stride;
    const tensor_map_shape shape = tensor_map_of(view.rows, view.columns, stride, box_rows, box_columns);
    const std::uint32_t steps[3] = {1, 1, 1};
    const CUresult made = tensor_map_encoder(op)(
        &map, std::is_same_v<std::remove_const_t<T>, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3,
        const_cast<void*>(static_cast<const void*>(view.data)), shape.extent, shape.stride, shape.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    expects(made == CUDA_SUCCESS, [&] {
        return std::string(op) + ": the driver refused a tensor map of [" + std::to_string(view.rows) + ", " + std::to_string(view.columns) +
               "] with a stride of " + std::to_string(view.stride) + " elements";
    });
    return map;
}

}  // namespace longspan::cuda::hopper::detail
