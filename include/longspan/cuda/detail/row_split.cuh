// SPDX-License-Identifier: Apache-2.0
//
// How a kernel that does a little with each element cuts a matrix: a CTA takes whole rows, and each of its threads has about `Ahead`
// items of them (packets, or groups of channels) under way together, `Batches` times one after the other where finding out about the
// rows is worth sharing. Everything within a CTA is 32 bits.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan::cuda::detail {

template <index PerRow, int Ahead, int Batches = 1>
struct row_split {
    static constexpr int threads = 256;
    static constexpr int per_row = static_cast<int>(PerRow);
    static constexpr int rows = PerRow >= threads * Ahead * Batches             ? 1
                                : threads * Ahead * Batches / per_row < threads ? threads * Ahead * Batches / per_row
                                                                                : threads;  // of a CTA
    static constexpr int items = rows * per_row;
    static constexpr int batches = (items + threads * Ahead - 1) / (threads * Ahead);
    static constexpr int ahead = (items + threads * batches - 1) / (threads * batches);  // items of a thread in a batch

    [[nodiscard]] static constexpr unsigned ctas(index all_rows) { return static_cast<unsigned>(ceil_div(all_rows, rows)); }

    /// Item k of a batch of this thread: its row in the CTA, its place in the row, and whether there is one in `rows_here` rows.
    struct item {
        int row, place;
        bool live;
    };
    [[nodiscard]] __device__ static item of(int batch, int k, int rows_here) {
        const int i = (batch * ahead + k) * threads + static_cast<int>(threadIdx.x);
        return {i / per_row, i % per_row, i < rows_here * per_row};
    }
    /// Rows of this CTA, of `all_rows`.
    [[nodiscard]] __device__ static int rows_here(index all_rows) {
        const index left = all_rows - blockIdx.x * index{rows};
        return left < rows ? static_cast<int>(left) : rows;
    }
};

}  // namespace longspan::cuda::detail
