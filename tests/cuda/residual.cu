// SPDX-License-Identifier: Apache-2.0
//
// A branch's way into the stream, held against the host's to the bit: the same draws, one fma, one rounding.
#include <algorithm>

#include <longspan/cuda/residual.cuh>
#include <longspan/host/residual.hpp>

#include "pieces_of_batch.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

constexpr random_site site{.seed = 77, .step = 5, .layer = 3, .site = 2};

template <index Width, class X, class B, class Y>
void like_the_host(index rows, const branch_drop& drop, unsigned seed, bool keys_on_device) {
    INFO("width ", Width, ", ", rows, " rows");
    const index x_stride = Width + 16, b_stride = Width + 32, y_stride = Width + 48;  // columns of wider tensors
    const own_stream stream;
    const batch_pieces pieces(rows, 40, 3000, seed);
    auto x = random_values<X>(static_cast<std::size_t>(rows * x_stride), seed + 1);
    auto b = random_values<B>(static_cast<std::size_t>(rows * b_stride), seed + 2);
    std::vector<Y> y(static_cast<std::size_t>(rows * y_stride)), d(y);
    const auto host_view = [&](auto& v, index stride) { return matrix_view(v.data(), rows, Width, stride); };
    host::residual(host_view(x, x_stride), host_view(b, b_stride), host_view(y, y_stride), pieces.on_host(), drop, site);
    host::residual_backward(host_view(b, b_stride), host_view(d, y_stride), pieces.on_host(), drop, site);

    const device_array<run_keys> keys(std::vector<run_keys>{{site.seed, site.step}});
    random_site changed = site;
    if (keys_on_device) changed.seed = 1, changed.step = 2;
    const cuda::random_origin origin(changed, keys_on_device ? keys.data() : nullptr);
    const device_array<X> dx(x);
    const device_array<B> db(b);
    for (int run = 0; run < 2; ++run) {
        device_array<Y> dy(y.size()), dd(y.size());
        const index most = run == 0 ? rows : 100;  // at a time
        for (index first = 0; first < rows; first += most) {
            const piece_rows here(pieces.on_device(), first, std::min(most, rows - first));
            const auto some = [&](auto all) { return all.row_range(first, here.count); };
            const auto branch = some(db.constants(rows, Width, b_stride));
            cuda::residual<Width>(stream, some(dx.constants(rows, Width, x_stride)), branch, some(dy.view(rows, Width, y_stride)), here, drop, origin);
            cuda::residual_backward<Width>(stream, branch, some(dd.view(rows, Width, y_stride)), here, drop, origin);
        }
        const auto ours = dy.get(), ours_d = dd.get();
        index wrong = 0, outside = 0;
        const unsigned char poison = 0xFF;
        for (index r = 0; r < rows; ++r) {
            for (index c = 0; c < y_stride; ++c) {
                const auto at = static_cast<std::size_t>(r * y_stride + c);
                if (c < Width) wrong += std::memcmp(&ours[at], &y[at], sizeof(Y)) != 0 || std::memcmp(&ours_d[at], &d[at], sizeof(Y)) != 0;
                else outside += std::memcmp(&ours[at], &poison, 1) != 0;
            }
        }
        CHECK(wrong == 0);
        CHECK(outside == 0);
    }
}

template <index Width, class X, class B, class Y>
void all_rates(index rows, unsigned seed) {
    like_the_host<Width, X, B, Y>(rows, {}, seed, false);
    like_the_host<Width, X, B, Y>(rows, {dropout_rate(0.1), depth_rate(0.25)}, seed, true);
    like_the_host<Width, X, B, Y>(rows, {dropout_rate(0.5), {}}, seed, false);
    like_the_host<Width, X, B, Y>(rows, {{}, depth_rate(0.5)}, seed, false);
}

}  // namespace

TEST_CASE("cuda residual: the host's bits at odd widths and rows, whatever is dropped") {
    all_rates<1, float, float, float>(301, 1);
    all_rates<24, bf16, bf16, bf16>(257, 2);
    all_rates<72, float, bf16, float>(97, 3);
    all_rates<1000, fp16, fp16, fp16>(67, 4);
    all_rates<768, bf16, bf16, bf16>(1, 5);
    all_rates<768, bf16, bf16, bf16>(21, 5);
    all_rates<768, bf16, bf16, bf16>(45, 6);
    all_rates<20480, bf16, bf16, bf16>(3, 7);
}

TEST_CASE("cuda residual: in place, on either side") {
    constexpr index width = 128, rows = 53;
    const own_stream stream;
    const batch_pieces pieces(rows, 9, 10, 4);
    const branch_drop drop{dropout_rate(0.3), depth_rate(0.2)};
    const auto x = random_values<bf16>(rows * width, 1), b = random_values<bf16>(rows * width, 2);
    device_array<bf16> onto(x), branch(b), apart(x.size());
    const auto run = [&](device_array<bf16>& to) {
        cuda::residual<width>(stream, onto.view(rows, width), branch.view(rows, width), to.view(rows, width), pieces.on_device(), drop, site);
        return to.get();
    };
    const auto expected = run(apart);
    CHECK(same_bits(run(branch), expected));
    branch.put(b);
    CHECK(same_bits(run(onto), expected));
}

TEST_CASE("cuda residual: no rows, and sentences for what does not fit") {
    const own_stream stream;
    const batch_pieces pieces(8, 4, 4, 1);
    device_array<bf16> x(8 * 64 + 8);
    const cuda::random_origin origin(site);
    cuda::residual<64>(stream, x.view(0, 64), x.view(0, 64), x.view(0, 64), piece_table{}, {}, origin);
    const auto fails = [&](matrix_view<bf16> y, const piece_table& table) {
        CHECK_THROWS_AS(cuda::residual<64>(stream, x.view(8, 64), x.view(8, 64), y, table, {}, origin), bad_argument);
    };
    fails(x.view(8, 56), pieces.on_device());
    fails(x.view(7, 64), pieces.on_device());
    fails({x.data() + 1, 8, 64}, pieces.on_device());
    fails({nullptr, 8, 64}, pieces.on_device());
    fails(x.view(8, 64), {pieces.on_device().pieces, 9});
    fails(x.view(8, 64), {{}, 8});
    stream.wait();
}

TEST_CASE("cuda residual: offsets beyond 2^31 elements") {
    constexpr index width = 4096, rows = (index{1} << 31) / width + 3;
    std::size_t free = 0, all = 0;
    cuda::check(cudaMemGetInfo(&free, &all), "test");
    if (free < std::size_t{3} * rows * width * 2 + (1u << 30)) {
        MESSAGE("left out: the device has too little memory free");
        return;
    }
    const own_stream stream;
    device_array<piece> table(std::vector<piece>{{5, 0, 0}, {6, 1, rows - 2}});
    const piece_table pieces{{table.data(), 2}, rows};
    device_array<bf16> x(rows * width), b(rows * width);
    x.zero(), b.zero();
    const auto tail = random_values<bf16>(2 * width, 8);
    cuda::check(cudaMemcpy(b.data() + (rows - 2) * width, tail.data(), tail.size() * 2, cudaMemcpyHostToDevice), "test");
    const branch_drop drop{dropout_rate(0.25), {}};
    cuda::residual<width>(stream, x.view(rows, width), b.view(rows, width), x.view(rows, width), pieces, drop, site);
    stream.wait();
    std::vector<bf16> ours(tail.size()), expected(tail.size()), zeros(tail.size(), bf16(0.0f));
    cuda::check(cudaMemcpy(ours.data(), x.data() + (rows - 2) * width, tail.size() * 2, cudaMemcpyDeviceToHost), "test");
    const piece last{6, 1, 0};
    host::residual(matrix_view(zeros.data(), 2, width), matrix_view(tail.data(), 2, width), matrix_view(expected.data(), 2, width), piece_table{{&last, 1}, 2}, drop, site);
    CHECK(same_bits(ours, expected));
}

}  // namespace longspan
