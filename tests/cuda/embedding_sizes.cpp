// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/embedding_sizes.hpp>

namespace longspan {

TEST_CASE("cuda embedding sizes: pieces of 32 to 128 tokens, at most 512 of them where 128 suffice") {
    static_assert(cuda::embedding_piece(1) == 32 && cuda::embedding_piece(16384) == 32 && cuda::embedding_piece(16385) == 64);
    static_assert(cuda::embedding_piece(65536) == 128 && cuda::embedding_piece(4'000'000) == 128);
    for (index tokens = 1; tokens <= 65536; tokens = tokens * 3 / 2 + 1) {
        CHECK(cuda::embedding_pieces(tokens) <= 512);
        CHECK(cuda::embedding_pieces(tokens) * cuda::embedding_piece(tokens) >= tokens);
    }
    static_assert(cuda::embedding_backward_workspace(64, 8) == 2 * (2 * 8 * 4 + 2 * 4));
    static_assert(cuda::embedding_backward_workspace(0, 8) == 0);
}

}  // namespace longspan
