// SPDX-License-Identifier: Apache-2.0
//
// How the copy engine is told of a matrix: [rows, columns] as boxes of some rows by whole panels of 64 columns, 128-byte swizzle,
// coordinates (0, row, panel). What lies outside arrives as 0. Made on the host at every call, by the driver, in about a
// microsecond; a kernel takes it as a parameter, so a captured graph keeps it.
//
// Rows that lie Step apart are boxes of a matrix [⌈rows / Step⌉, Step, columns], coordinates (0, remainder, quotient, panel). The engine
// looks at each extent alone, so where Step does not divide the rows, the remainders that have one row more have a map of their own:
// nothing behind the last row is read.
#pragma once

#include <cuda.h>

#include <string>
#include <type_traits>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/ptx/tma.cuh>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::hopper::detail {

/// The numbers of a tensor map.
struct tensor_map_shape {
    std::uint32_t rank;
    std::uint64_t extent[4];
    std::uint64_t stride[3];  // bytes
    std::uint32_t box[4];
};
[[nodiscard]] constexpr tensor_map_shape tensor_map_of(index rows, index columns, index stride, int box_rows, int box_columns) {
    return {3,
            {64, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns / 64)},
            {static_cast<std::uint64_t>(stride) * 2, 128},
            {64, static_cast<std::uint32_t>(box_rows), static_cast<std::uint32_t>(box_columns / 64)}};
}
/// `remainders` of `step`, each with `rows` rows.
[[nodiscard]] constexpr tensor_map_shape comb_map_of(index rows, index remainders, index step, index columns, index stride, int box_rows,
                                                     int box_columns) {
    return {4,
            {64, static_cast<std::uint64_t>(remainders), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns / 64)},
            {static_cast<std::uint64_t>(stride) * 2, static_cast<std::uint64_t>(stride * step) * 2, 128},
            {64, 1, static_cast<std::uint32_t>(box_rows), static_cast<std::uint32_t>(box_columns / 64)}};
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

/// A map of a part of `view` that begins at row `first`.
template <class T>
[[nodiscard]] CUtensorMap encode_tensor_map(const char* op, matrix_view<T> view, index first, const tensor_map_shape& shape) {
    static_assert(sizeof(T) == 2);
    CUtensorMap map{};
    const std::uint32_t steps[4] = {1, 1, 1, 1};
    const CUresult made = tensor_map_encoder(op)(
        &map, std::is_same_v<std::remove_const_t<T>, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, shape.rank,
        const_cast<void*>(static_cast<const void*>(view.row(first))), shape.extent, shape.stride, shape.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    expects(made == CUDA_SUCCESS, [&] {
        return std::string(op) + ": the driver refused a tensor map of [" + std::to_string(view.rows) + ", " + std::to_string(view.columns) +
               "] with a stride of " + std::to_string(view.stride) + " elements";
    });
    return map;
}

/// Boxes of rows that lie Step apart, as a kernel takes them.
template <int Step>
struct row_maps {
    CUtensorMap longer, shorter;  ///< of the remainders that have one row more, and of the others
    unsigned longer_remainders;

    __device__ __forceinline__ void prefetch() const { ptx::prefetch_tensor_map(&longer), ptx::prefetch_tensor_map(&shorter); }
    /// The box whose first row is `row`.
    __device__ __forceinline__ void copy(std::uint32_t to, int row, int panel, std::uint32_t mbarrier) const {
        const unsigned remainder = static_cast<unsigned>(row) % Step, quotient = static_cast<unsigned>(row) / Step;
        const bool in_longer = remainder < longer_remainders;
        const int within = static_cast<int>(in_longer ? remainder : remainder - longer_remainders);
        ptx::copy_box(to, in_longer ? &longer : &shorter, 0, within, static_cast<int>(quotient), panel, mbarrier);
    }
};
template <>
struct row_maps<1> {
    CUtensorMap all;

    __device__ __forceinline__ void prefetch() const { ptx::prefetch_tensor_map(&all); }
    __device__ __forceinline__ void copy(std::uint32_t to, int row, int panel, std::uint32_t mbarrier) const {
        ptx::copy_box(to, &all, 0, row, panel, mbarrier);
    }
};

template <int Step, class T>
[[nodiscard]] row_maps<Step> make_row_maps(const char* op, matrix_view<T> view, int box_rows, int box_columns) {
    if (view.rows == 0) return {};
    // One row: its stride does not matter, but must be one that the encoder takes.
    const index stride = view.rows == 1 ? round_up(view.columns, 64) : view.stride;
    if constexpr (Step == 1) {
        return {encode_tensor_map(op, view, 0, tensor_map_of(view.rows, view.columns, stride, box_rows, box_columns))};
    } else {
        row_maps<Step> maps{};
        const index rows = view.rows / Step, more = view.rows % Step;
        maps.longer_remainders = static_cast<unsigned>(more);
        const auto map = [&](index first, index rows_here, index remainders) {
            return encode_tensor_map(op, view, first, comb_map_of(rows_here, remainders, Step, view.columns, stride, box_rows, box_columns));
        };
        if (more > 0) maps.longer = map(0, rows + 1, more);
        if (rows > 0) maps.shorter = map(more, rows, Step - more);
        // Both are fetched ahead, so both are maps.
        if (more == 0) maps.longer = maps.shorter;
        if (rows == 0) maps.shorter = maps.longer;
        return maps;
    }
}

}  // namespace longspan::cuda::hopper::detail
