// SPDX-License-Identifier: Apache-2.0
//
// Dropout on the device, held against the host's to the bit.
#include <longspan/cuda/dropout.cuh>
#include <longspan/host/dropout.hpp>

#include "pieces_of_batch.cuh"

namespace longspan {

using namespace cuda_test;

TEST_CASE_TEMPLATE("cuda dropout: the host's bits, forward and backward, in place too", T, float, bf16, fp16) {
    constexpr index width = 104, rows = 111;
    const own_stream stream;
    const random_site site{.seed = 7, .step = 11, .layer = 1, .site = 4};
    const batch_pieces pieces(rows, 20, 100, 3);
    for (const double rate : {0.0, 0.1, 0.9}) {
        auto x = random_values<T>(rows * width, 1);
        std::vector<T> y(x.size());
        host::dropout(matrix_view(x.data(), rows, width), matrix_view(y.data(), rows, width), pieces.on_host(), dropout_rate(rate), site);
        device_array<T> from(x), to(x.size());
        cuda::dropout<width>(stream, from.constants(rows, width), to.view(rows, width), pieces.on_device(), dropout_rate(rate), site);
        CHECK(same_bits(to.get(), y));
        cuda::dropout<width>(stream, from.view(rows, width), from.view(rows, width), pieces.on_device(), dropout_rate(rate), site);
        CHECK(same_bits(from.get(), y));
    }
}

TEST_CASE("cuda dropout: sentences for what does not fit") {
    const own_stream stream;
    const batch_pieces pieces(4, 4, 4, 1);
    device_array<float> x(4 * 32);
    CHECK_THROWS_AS(cuda::dropout<32>(stream, x.view(4, 32), x.view(3, 32), pieces.on_device(), dropout_rate(0.5), random_site{}), bad_argument);
    CHECK_THROWS_AS(cuda::dropout<32>(stream, x.view(4, 32), x.view(4, 32), {}, dropout_rate(0.5), random_site{}), bad_argument);
}

}  // namespace longspan
