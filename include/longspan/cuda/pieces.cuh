// SPDX-License-Identifier: Apache-2.0
//
// Which document a token belongs to, for kernels that walk rows: pieces lie in device memory, a row's piece is found by a binary
// search, once per row.
#pragma once

#include <longspan/core/piece.hpp>
#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// A piece_table whose pieces are in device memory, as kernels take it.
struct device_pieces {
    const piece* pieces = nullptr;
    index count = 0;

    constexpr device_pieces() = default;
    device_pieces(const piece_table& table) : pieces(table.pieces.data()), count(table.count()) {}

    /// The last piece that begins at or before the token: the one that holds it, since empty ones begin where the next does.
    __device__ const piece& of(index token) const {
        index low = 0, high = count;
        while (high - low > 1) {
            const index middle = low + (high - low) / 2;
            if (pieces[middle].begin <= token) low = middle;
            else high = middle;
        }
        return pieces[low];
    }
    /// Position of a token within its document.
    __device__ index position(index token) const {
        const piece& p = of(token);
        return token - p.begin + p.position;
    }
};

}  // namespace longspan::cuda
