// SPDX-License-Identifier: Apache-2.0
//
// Which document a token belongs to, for kernels that walk rows: pieces lie in device memory, a row's piece is found by a binary
// search, once per row.
#pragma once

#include <string>

#include <longspan/core/piece.hpp>
#include <longspan/cuda/check.cuh>

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

namespace detail {

/// Throws bad_argument unless the pieces are there and made for `rows` tokens. What they hold is on the device, and not looked at.
inline void expect_table(const char* op, const piece_rows& pieces, index rows) {
    expects(pieces.count == rows && pieces.valid(), [&] {
        return std::string(op) + ": expected pieces that cover the " + std::to_string(rows) + " rows, got pieces of " + std::to_string(pieces.of.tokens) + " tokens" +
               (pieces.count == pieces.of.tokens ? ""
                                                 : ", of them " + std::to_string(pieces.count) + " from " + std::to_string(pieces.first) + " on");
    });
    if (rows > 0) expect_pointer(op, "pieces", pieces.of.pieces.empty() ? nullptr : pieces.of.pieces.data(), alignof(piece));
}

}  // namespace detail

}  // namespace longspan::cuda
