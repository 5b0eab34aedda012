// SPDX-License-Identifier: Apache-2.0
//
// A tile of a row-major matrix in shared memory, [Rows, Width]. Rows stand an odd number of 16-byte units apart, so that the same
// unit of 8 rows in a row lies in 8 different groups of banks: ldmatrix reads without conflicts, and every address is one
// register plus a constant, which an exclusive-or of row and column would not be. Cost: 16 bytes a row at most 256 bytes.
#pragma once

#include <cstdint>

#include <longspan/core/types.hpp>
#include <longspan/cuda/ptx/afresh.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>

namespace longspan::cuda::tile {

template <class T, int Rows, int Width>
struct shared_tile {
    static_assert(Width * sizeof(T) % 16 == 0, "shared_tile: a row is whole 16-byte units");
    using element = T;
    static constexpr int rows = Rows, width = Width;
    static constexpr int units = Width * int{sizeof(T)} / 16;
    static constexpr int pitch = (units | 1) * 16;  ///< bytes from row to row
    static constexpr int size = Rows * pitch;       ///< bytes

    std::uint32_t base;

    __device__ __forceinline__ std::uint32_t at(int row, int column) const {
        return base + static_cast<std::uint32_t>(row * pitch + column * int{sizeof(T)});
    }
    /// The same memory seen from (row, column) on.
    __device__ __forceinline__ shared_tile from(int row, int column = 0) const { return {at(row, column)}; }
    /// The same tile, of which a compiler knows nothing: then sums of its address and constants are not taken out of a loop, each
    /// into a register of its own, but stay constants within instructions.
    __device__ __forceinline__ shared_tile afresh() const { return {ptx::afresh(base)}; }
};

/// Where a thread stands: its warp, its lane, and the row g and column pair t of its sums. Asked afresh, so that a loop that needs
/// every register does not carry what can be asked again.
struct thread_place {
    int thread, warp, lane, g, t;

    __device__ __forceinline__ thread_place() {
        thread = ptx::thread_x();
        warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
    }
};

/// Starts copying `live` rows of Columns elements, `stride` apart, with all Threads of the block; the rest of the tile becomes 0.
template <int Threads, int Columns, class T, int Rows, int Width>
__device__ __forceinline__ void copy_rows(shared_tile<T, Rows, Width> to, const T* from, index stride, int live,
                                          int thread = static_cast<int>(threadIdx.x)) {
    constexpr int units = shared_tile<T, Rows, Width>::units, each = 16 / int{sizeof(T)};
    static_assert(Columns % each == 0);
    if constexpr (Threads % units == 0 && Rows % (Threads / units) == 0) {
        constexpr int step = Threads / units;
        const int first = thread / units, unit = thread % units;
        const bool inside = unit * each < Columns;
        const T* at = from + first * stride + unit * each;
        std::uint32_t place = to.at(first, unit * each);
#pragma unroll
        for (int row = 0; row < Rows; row += step) {
            const bool here = inside && first + row < live;
            ptx::copy_16(place, here ? at : from, here);
            at += step * stride;
            place += step * shared_tile<T, Rows, Width>::pitch;
        }
    } else {
        for (int i = thread; i < Rows * units; i += Threads) {
            const int row = i / units, column = i % units * each;
            const bool here = row < live && column < Columns;
            ptx::copy_16(to.at(row, column), here ? from + row * stride + column : from, here);
        }
    }
}

}  // namespace longspan::cuda::tile
