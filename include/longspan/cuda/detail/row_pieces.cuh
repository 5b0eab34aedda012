// SPDX-License-Identifier: Apache-2.0
//
// The pieces of a CTA's rows, found by one warp with two or three dependent loads: 32 places of the table at a time until 64 pieces
// are left, then rows look among these. While a table's begins are searched, other warps wait for tensors.
#pragma once

#include <longspan/cuda/pieces.cuh>

namespace longspan::cuda::detail {

template <int Rows>
struct row_pieces {
    static constexpr int window = 64;
    index begin[window];  // of the pieces from `base` on
    index document[Rows], position[Rows];

    /// Fills document and position of rows [first, first + rows); called by one whole warp. Others see it behind a barrier.
    __device__ __forceinline__ void find(const device_pieces& pieces, index first, int rows) {
        constexpr index beyond = INT64_MAX;
        const int lane = static_cast<int>(threadIdx.x) % 32;
        index base = 0, end = pieces.count;  // the last piece that begins at or before `first` is in [base, end)
        while (end - base > window) {
            const index step = (end - base + 31) / 32, at = base + lane * step;
            const unsigned before = __ballot_sync(0xffffffffu, at < end && pieces.pieces[at].begin <= first);
            base += (__popc(before) - 1) * step;
            end = base + step < end ? base + step : end;
        }
#pragma unroll
        for (int k = 0; k < window; k += 32) {
            const index at = base + k + lane;
            begin[k + lane] = at < pieces.count ? pieces.pieces[at].begin : beyond;
        }
        __syncwarp();
        for (int r = lane; r < rows; r += 32) {
            const index t = first + r;
            const piece* of = pieces.pieces + base;
            if (begin[window - 1] > t) {
                int low = 0;
#pragma unroll
                for (int half = window / 2; half > 0; half /= 2)
                    if (begin[low + half] <= t) low += half;
                of += low;
            } else {
                of = &pieces.of(t);
            }
            document[r] = of->document;
            position[r] = t - of->begin + of->position;
        }
    }
};

}  // namespace longspan::cuda::detail
