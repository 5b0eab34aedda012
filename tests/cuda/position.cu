// SPDX-License-Identifier: Apache-2.0
//
// Positions on the device, against the host's.
#include <longspan/cuda/position.cuh>
#include <longspan/host/position.hpp>

#include "pieces_of_batch.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

/// Each piece within a table of `context` rows, padding round it.
template <index Width, class W, class X>
void learned(index rows, index context, index longest, unsigned seed) {
    INFO("[", rows, ", ", Width, "], table of ", context);
    const own_stream stream;
    const batch_pieces pieces(rows, longest, context - longest, seed);
    const index stride = Width + 8;
    auto table = random_values<W>(static_cast<std::size_t>(context * Width), seed);
    auto x = random_values<X>(static_cast<std::size_t>(rows * stride), seed + 1);
    auto gradient = random_values<float>(static_cast<std::size_t>(context * stride), seed + 2);
    device_array<W> d_table(table);
    device_array<X> d_x(x);
    device_array<float> d_gradient(gradient);
    host::learned_positions_backward(pieces.on_host(), matrix_view<const X>(x.data(), rows, Width, stride), matrix_view(gradient.data(), context, Width, stride));
    cuda::learned_positions_backward<Width>(stream, pieces.on_device(), d_x.constants(rows, Width, stride), d_gradient.view(context, Width, stride));
    CHECK(same_bits(d_gradient.get(), gradient));
    host::add_learned_positions(pieces.on_host(), matrix_view<const W>(table.data(), context, Width), matrix_view(x.data(), rows, Width, stride));
    cuda::add_learned_positions<Width>(stream, pieces.on_device(), d_table.constants(context, Width), d_x.view(rows, Width, stride));
    CHECK(same_bits(d_x.get(), x));
}

template <index Width, class X>
void sinusoidal(index rows, index latest, unsigned seed) {
    INFO("[", rows, ", ", Width, "], positions to ", latest);
    const own_stream stream;
    const batch_pieces pieces(rows, 30, latest, seed);
    const index stride = Width + 8;
    auto x = random_values<X>(static_cast<std::size_t>(rows * stride), seed);
    device_array<X> d_x(x);
    host::add_sinusoidal_positions(pieces.on_host(), matrix_view(x.data(), rows, Width, stride));
    cuda::add_sinusoidal_positions<Width>(stream, pieces.on_device(), d_x.view(rows, Width, stride));
    const auto ours = d_x.get();
    index different = 0;
    for (std::size_t i = 0; i < x.size(); ++i) different += std::memcmp(&ours[i], &x[i], sizeof(X)) != 0;
    CHECK(different <= static_cast<index>(x.size()) / 100000);  // both are right to 2e-16: a tie of the rounding at most
    CHECK(relative_error(doubles(ours), doubles(x)) < 1e-7);
}

}  // namespace

TEST_CASE("cuda position: a learned table and its gradient, the host's bits") {
    learned<1, float, float>(99, 17, 9, 1);
    learned<24, bf16, bf16>(1, 64, 20, 2);
    learned<768, bf16, bf16>(300, 128, 64, 3);
    learned<768, float, float>(700, 31, 31, 4);   // padding goes round the table
    learned<96, fp16, fp16>(5000, 40, 3, 5);      // more pieces than are looked at together
    learned<4104, bf16, bf16>(17, 16, 16, 6);
}

TEST_CASE("cuda position: waves, at positions up to four million") {
    sinusoidal<2, float>(50, 100, 1);
    sinusoidal<7, float>(65, 4'000'000, 2);
    sinusoidal<768, float>(131, 4'000'000, 3);
    sinusoidal<768, bf16>(131, 4'000'000, 4);
    sinusoidal<300, fp16>(31, 1000, 5);
}

TEST_CASE("cuda position: waves against long double at far positions") {
    constexpr index width = 64;
    const own_stream stream;
    const std::vector<piece> table{{1, 3'999'999, 0}, {2, 123'456'789, 1}};
    const device_array<piece> pieces(table);
    device_array<float> x(2 * width);
    x.zero();
    cuda::add_sinusoidal_positions<width>(stream, piece_table{{pieces.data(), 2}, 2}, x.view(2, width));
    const auto ours = x.get();
    for (index t = 0; t < 2; ++t) {
        for (index j = 0; j < width / 2; ++j) {
            const long double angle = static_cast<long double>(table[static_cast<std::size_t>(t)].position) * powl(10000.0L, -2.0L * static_cast<long double>(j) / width);
            CHECK(ours[static_cast<std::size_t>(t * width + 2 * j)] == doctest::Approx(static_cast<double>(sinl(angle))).epsilon(1e-7));
            CHECK(ours[static_cast<std::size_t>(t * width + 2 * j + 1)] == doctest::Approx(static_cast<double>(cosl(angle))).epsilon(1e-7));
        }
    }
}

TEST_CASE("cuda position: no rows, and sentences for what does not fit") {
    const own_stream stream;
    const batch_pieces pieces(8, 4, 4, 1);
    device_array<bf16> x(8 * 64);
    device_array<float> gradient(8 * 64);
    cuda::add_learned_positions<64>(stream, piece_table{}, x.constants(8, 64), x.view(0, 64));
    cuda::learned_positions_backward<64>(stream, piece_table{}, x.constants(0, 64), gradient.view(8, 64));
    cuda::add_sinusoidal_positions<64>(stream, piece_table{}, x.view(0, 64));
    CHECK_THROWS_AS(cuda::add_learned_positions<64>(stream, pieces.on_device(), x.constants(0, 64), x.view(8, 64)), bad_argument);
    CHECK_THROWS_AS(cuda::add_learned_positions<64>(stream, pieces.on_device(), x.constants(8, 64), x.view(7, 64)), bad_argument);
    CHECK_THROWS_AS(cuda::learned_positions_backward<64>(stream, pieces.on_device(), x.constants(8, 64), gradient.view(8, 32)), bad_argument);
    CHECK_THROWS_AS((cuda::add_sinusoidal_positions<64>(stream, piece_table{{}, 8}, x.view(8, 64))), bad_argument);
    stream.wait();
}

TEST_CASE("cuda position: offsets beyond 2^31 elements") {
    constexpr index width = 8192, rows = (index{1} << 31) / width + 1;
    std::size_t free = 0, all = 0;
    cuda::check(cudaMemGetInfo(&free, &all), "test");
    if (free < std::size_t{rows} * width * 2 + (1u << 30)) {
        MESSAGE("left out: the device has too little memory free");
        return;
    }
    const own_stream stream;
    const device_array<piece> table(std::vector<piece>{{5, 0, 0}, {6, 3, rows - 1}});
    const piece_table pieces{{table.data(), 2}, rows};
    device_array<bf16> x(static_cast<std::size_t>(rows * width));
    x.zero();
    const auto learned_table = random_values<bf16>(4 * width, 1);
    const device_array<bf16> d_table(learned_table);
    device_array<float> gradient(4 * width);
    gradient.zero();
    cuda::add_learned_positions<width>(stream, pieces, d_table.constants(4, width), x.view(rows, width));
    stream.wait();
    std::vector<bf16> ours(width);
    const auto last = [&] {
        stream.wait();
        cuda::check(cudaMemcpy(ours.data(), x.data() + (rows - 1) * width, width * 2, cudaMemcpyDeviceToHost), "test");
        return ours;
    };
    CHECK(same_bits(last(), std::vector<bf16>(learned_table.begin() + 3 * width, learned_table.end())));
    x.zero();
    cuda::check(cudaMemcpy(x.data() + (rows - 1) * width, learned_table.data(), width * 2, cudaMemcpyHostToDevice), "test");
    cuda::learned_positions_backward<width>(stream, pieces, x.constants(rows, width), gradient.view(4, width));
    const auto sums = gradient.get();
    CHECK(doubles(std::vector<float>(sums.begin() + 3 * width, sums.end())) == doubles(std::vector<bf16>(learned_table.begin(), learned_table.begin() + width)));
    x.zero();
    cuda::add_sinusoidal_positions<width>(stream, pieces, x.view(rows, width));
    CHECK(to_compute(last()[1]) == to_compute(from_compute<bf16>(static_cast<float>(std::cos(3.0)))));
}

}  // namespace longspan
