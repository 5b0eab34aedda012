// SPDX-License-Identifier: Apache-2.0
//
// Which piece holds a token, on the device, against a walk over the table on the host.
#include <longspan/cuda/pieces.cuh>

#include "pieces_of_batch.cuh"

namespace cuda_test {

using longspan::piece;
using longspan::piece_table;

static __global__ void find(longspan::cuda::device_pieces pieces, index tokens, index* documents, index* positions) {
    const index token = blockIdx.x * index{128} + threadIdx.x;
    if (token >= tokens) return;
    documents[token] = pieces.of(token).document;
    positions[token] = pieces.position(token);
}

static void check_table(const piece_table& on_host, const piece_table& on_device) {
    const auto tokens = static_cast<std::size_t>(on_host.tokens);
    device_array<index> documents(tokens), positions(tokens);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    find<<<static_cast<unsigned>(longspan::ceil_div(on_host.tokens, 128)), 128, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(
        on_device, on_host.tokens, documents.data(), positions.data());
    longspan::cuda::check_launch("test");
    const std::vector<index> document = documents.get(), position = positions.get();
    std::size_t told = 0;
    for (index i = 0; i < on_host.count(); ++i)
        for (index t = on_host.begin(i); t < on_host.end(i); ++t, ++told) {
            CHECK(document[static_cast<std::size_t>(t)] == on_host[i].document);
            CHECK(position[static_cast<std::size_t>(t)] == on_host[i].position + t - on_host.begin(i));
        }
    CHECK(told == tokens);
}

TEST_CASE("pieces: each token finds its document and its place there, between empty pieces too") {
    unsigned seed = 0;
    for (const index tokens : {1, 2, 31, 500, 4099}) {
        for (const index longest : {1, 3, 200}) {
            CAPTURE(tokens);
            CAPTURE(longest);
            ++seed;
            const batch_pieces pieces(tokens, longest, 4'000'000, seed, seed % 2 == 0);
            check_table(pieces.on_host(), pieces.on_device());
        }
    }
    // Empty ones first, side by side, and last; ids and positions of more than 32 bits.
    const std::vector<piece> odd{{3, 9, 0}, {4, 0, 0}, {index{1} << 40, index{1} << 35, 0}, {6, 1, 7}, {7, 2, 7}, {8, 3, 7}, {9, 4, 20}, {10, 5, 20}};
    const device_array<piece> there(odd);
    check_table({odd, 20}, {{there.data(), odd.size()}, 20});
}

TEST_CASE("pieces: sentences for tables that do not fit") {
    const std::vector<piece> some{{0, 0, 0}};
    const device_array<piece> there(some);
    const auto said = [](const piece_table& pieces, index rows) -> std::string {
        try {
            longspan::cuda::detail::expect_table("an op", pieces, rows);
        } catch (const longspan::bad_argument& e) {
            return e.what();
        }
        return "";
    };
    CHECK(said({{there.data(), 1}, 5}, 5) == "");
    CHECK(said({{there.data(), 1}, 5}, 6) == "an op: expected pieces that cover the 6 rows, got pieces of 5 tokens");
    CHECK(said({{}, 5}, 5) == "an op: expected pieces at a multiple of 8 bytes, got a null pointer");
    CHECK(said({{}, 0}, 0) == "");
}

}  // namespace cuda_test
