// SPDX-License-Identifier: Apache-2.0
//
// Streams in fixed point, held against the host's to the bit: the same draws, the same roundings, the same notes.
#include <algorithm>
#include <limits>

#include <longspan/core/bad_ids.hpp>
#include <longspan/cuda/fixed_stream.cuh>
#include <longspan/host/fixed_stream.hpp>

#include "pieces_of_batch.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

constexpr random_site site{.seed = 77, .step = 5, .layer = 3, .site = 2};

[[nodiscard]] std::vector<fixed32> random_stream(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<fixed32> x(count);
    for (fixed32& v : x) v = {static_cast<std::int32_t>(random()) / 16 * 7};  // seven eighths of the range
    return x;
}

/// y = x + branch and back, at strides of wider tensors, with values that do not fit among the others.
template <index Width, class B>
void like_the_host(index rows, const branch_drop& drop, unsigned seed, bool spoilt) {
    INFO("width ", Width, ", ", rows, " rows");
    const index x_stride = 2 * Width, b_stride = Width + 32, y_stride = Width + 48;
    const own_stream stream;
    const batch_pieces pieces(rows, 40, 3000, seed);
    const auto x = random_stream(static_cast<std::size_t>(rows * x_stride), seed + 1);
    auto b = random_values<B>(static_cast<std::size_t>(rows * b_stride), seed + 2, 20);
    if (spoilt) {
        for (std::size_t i = 5; i < b.size(); i += 977) b[i] = B(std::numeric_limits<float>::quiet_NaN());
        for (std::size_t i = 8; i < b.size(); i += 613) b[i] = B(2200.0f);  // fits, thinned too, but not onto large values
    }
    std::vector<fixed32> y(static_cast<std::size_t>(rows * y_stride)), back(x.size());
    index expected_bad = bad_ids::none;
    const auto view = [&](auto& v, index stride) { return matrix_view(v.data(), rows, Width, stride); };
    host::add_branch(view(x, x_stride), view(b, b_stride), view(y, y_stride), pieces.on_host(), drop, site, &expected_bad);
    CHECK((expected_bad != bad_ids::none) == spoilt);
    host::take_branch(view(y, y_stride), view(b, b_stride), view(back, x_stride), pieces.on_host(), drop, site, nullptr);

    const cuda::random_origin origin(site);
    const device_array<fixed32> dx(x);
    const device_array<B> db(b);
    device_array<fixed32> dy(y.size()), d_back(x.size());
    device_array<index> note(std::vector<index>{bad_ids::none});
    for (index first = 0; first < rows; first += 100) {  // some rows at a time, and all of them back
        const index count = std::min<index>(100, rows - first);
        cuda::add_branch<Width>(stream, dx.constants(rows, Width, x_stride).row_range(first, count),
                                db.constants(rows, Width, b_stride).row_range(first, count), dy.view(rows, Width, y_stride).row_range(first, count),
                                {pieces.on_device(), first, count}, drop, origin, note.data());
    }
    cuda::take_branch<Width>(stream, dy.constants(rows, Width, y_stride), db.constants(rows, Width, b_stride), d_back.view(rows, Width, x_stride),
                             pieces.on_device(), drop, origin, nullptr);
    const auto ours = dy.get(), came_back = d_back.get();
    CHECK(note.get()[0] == expected_bad);
    index wrong = 0, wrong_back = 0, lost = 0;
    for (index r = 0; r < rows; ++r)
        for (index c = 0; c < Width; ++c) {
            wrong += !(ours[static_cast<std::size_t>(r * y_stride + c)] == y[static_cast<std::size_t>(r * y_stride + c)]);
            const auto at = static_cast<std::size_t>(r * x_stride + c);
            wrong_back += !(came_back[at] == back[at]);
            lost += !(came_back[at] == x[at]);
        }
    CHECK(wrong == 0);
    CHECK(wrong_back == 0);
    if (!spoilt) CHECK(lost == 0);  // what does not fit is not added, and then taken off all the same
}

template <index Width, class B>
void all_rates(index rows, unsigned seed) {
    like_the_host<Width, B>(rows, {}, seed, false);
    like_the_host<Width, B>(rows, {dropout_rate(0.1), depth_rate(0.25)}, seed, false);
    like_the_host<Width, B>(rows, {dropout_rate(0.5), {}}, seed, false);
    like_the_host<Width, B>(rows, {{}, depth_rate(0.5)}, seed, false);
}

}  // namespace

TEST_CASE("cuda fixed_stream: the host's bits at odd widths and rows, whatever is dropped, and back to the bit") {
    all_rates<1, float>(301, 1);
    all_rates<24, bf16>(257, 2);
    all_rates<72, float>(97, 3);
    all_rates<1000, fp16>(67, 4);
    all_rates<768, bf16>(45, 6);
    all_rates<20480, bf16>(3, 7);
}

TEST_CASE("cuda fixed_stream: what does not fit is noted as on the host") {
    like_the_host<768, bf16>(45, {}, 11, true);
    like_the_host<72, float>(97, {dropout_rate(0.3), depth_rate(0.2)}, 12, true);
}

TEST_CASE("cuda fixed_stream: streams begin, are added and part as on the host") {
    constexpr index width = 136, rows = 77;
    const own_stream stream;
    auto values = random_values<bf16>(rows * width, 5, 100);
    device_array<bf16> dv(values);
    std::vector<fixed32> x(2 * rows * width, fixed32{3});
    device_array<fixed32> dx(x);
    device_array<index> note(std::vector<index>{bad_ids::none});
    for (const bool spoilt : {false, true}) {
        if (spoilt) {
            values[31 * width + 7] = values[40 * width] = bf16(5000.0f);
            dv.put(values);
        }
        index expected_bad = bad_ids::none;
        const auto view = [&](index begin) { return matrix_view(x.data() + begin, rows, width, 2 * width); };
        const auto d_view = [&](index begin) { return matrix_view(dx.data() + begin, rows, width, 2 * width); };
        host::start_stream(matrix_view(values.data(), rows, width), view(0), &expected_bad);
        cuda::start_stream<width>(stream, dv.constants(rows, width), d_view(0), note.data());
        CHECK(note.get()[0] == expected_bad);
        CHECK(expected_bad == (spoilt ? 31 : bad_ids::none));
        CHECK(same_bits(dx.get(), x));
        host::add_stream(view(width), view(0));
        cuda::add_stream<width>(stream, d_view(width), d_view(0));
        CHECK(same_bits(dx.get(), x));
        host::take_stream(view(width), view(0));
        cuda::take_stream<width>(stream, d_view(width), d_view(0));
        CHECK(same_bits(dx.get(), x));
    }
}

TEST_CASE("cuda fixed_stream: no rows, and sentences for what does not fit") {
    const own_stream stream;
    const batch_pieces pieces(8, 4, 4, 1);
    device_array<fixed32> x(8 * 64 + 8);
    device_array<bf16> b(8 * 64 + 8);
    const cuda::random_origin origin(site);
    cuda::add_branch<64>(stream, x.view(0, 64), b.view(0, 64), x.view(0, 64), piece_table{}, {}, origin, nullptr);
    const auto fails = [&](matrix_view<fixed32> y, const piece_table& table) {
        CHECK_THROWS_AS(cuda::add_branch<64>(stream, x.view(8, 64), b.view(8, 64), y, table, {}, origin, nullptr), bad_argument);
    };
    fails(x.view(8, 56), pieces.on_device());
    fails(x.view(7, 64), pieces.on_device());
    fails({x.data() + 1, 8, 64}, pieces.on_device());
    fails({nullptr, 8, 64}, pieces.on_device());
    fails(x.view(8, 64), {pieces.on_device().pieces, 9});
    CHECK_THROWS_AS(cuda::add_branch<64>(stream, x.view(8, 64), b.view(8, 64), x.view(8, 64), {pieces.on_device(), 1, 8}, {}, origin, nullptr), bad_argument);
    CHECK_THROWS_AS(cuda::start_stream<64>(stream, b.view(7, 64), x.view(8, 64), nullptr), bad_argument);
    CHECK_THROWS_AS(cuda::add_stream<64>(stream, x.view(8, 64), x.view(7, 64)), bad_argument);
    stream.wait();
}

}  // namespace longspan
