// SPDX-License-Identifier: Apache-2.0
//
// The host as a backend: what its members add to the ops of this folder, each of which has a test of its own.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <longspan/host/cpu.hpp>
#include <longspan/layer/context.hpp>
#include <longspan/memory/transfer.hpp>
#include <longspan/model/shape.hpp>

#include "buffers.hpp"

namespace ls = longspan;
using ls::host::cpu;

namespace {

constexpr ls::decoder_shape shape{.layers = 1, .width = 24, .heads = 3, .vocabulary = 100, .loss_chunk = 16};
template <auto Precision>
using model = ls::model_of<shape, std::remove_cvref_t<decltype(Precision)>>;

// Sizes of workspaces are constants: gradients of 2 bytes are summed in float beside them; a chunk is at most the batch.
static_assert(cpu::attention_workspace<model<ls::fp32>>(10) == 0);
static_assert(cpu::attention_workspace<model<ls::mixed<ls::bf16>>>(10) == 10 * 24 * 4);
static_assert(cpu::loss_workspace<model<ls::fp32>>(1000) == 16 * 8 + 16 * 100 * 4);
static_assert(cpu::loss_workspace<model<ls::fp64>>(5) == 5 * 8 + 5 * 100 * 8);
static_assert(cpu::loss_workspace<model<ls::mixed<ls::fp16>>>(5) == 5 * 8 + 5 * 100 * 4);

}  // namespace

TEST_CASE("cpu: first values are normals of the seed, the tensor and the element alone") {
    std::vector<float> all(200'003), part(70'001), other(1000);
    cpu::fill_normal(std::span(all), 42, 3, 0.5);
    cpu::fill_normal(std::span(part), 42, 3, 0.5);
    CHECK(std::equal(part.begin(), part.end(), all.begin()));
    {
        const test::threads_restored restore;
        for (const int threads : {1, 3}) {
            test::use_threads(threads);
            std::vector<float> again(all.size());
            cpu::fill_normal(std::span(again), 42, 3, 0.5);
            CHECK(again == all);
        }
    }
    cpu::fill_normal(std::span(other), 42, 4, 0.5);
    CHECK(other[0] != all[0]);
    cpu::fill_normal(std::span(other), 43, 3, 0.5);
    CHECK(other[0] != all[0]);
    double mean = 0, square = 0;
    for (const float x : all) mean += x, square += static_cast<double>(x) * x;
    const double n = static_cast<double>(all.size());
    CHECK(std::abs(mean / n) < 4 * 0.5 / std::sqrt(n));
    CHECK(square / n == doctest::Approx(0.25).epsilon(0.02));
}

TEST_CASE("cpu: zero, fill, copy, round, and what is not finite") {
    std::vector<float> values(130'000, 7.0f);
    cpu::zero(std::span(values));
    CHECK(values == std::vector<float>(values.size()));
    cpu::fill(std::span(values), 1.0);
    CHECK(values == std::vector<float>(values.size(), 1.0f));
    double squares = -1;
    cpu::sum_of_squares(std::span(values), &squares);
    CHECK(squares == 130'000.0);
    ls::index not_finite = 7;
    cpu::first_non_finite(std::span(values), &not_finite);
    CHECK(not_finite == -1);
    values[129'999] = std::numeric_limits<float>::infinity();
    cpu::first_non_finite(std::span(values), &not_finite);
    CHECK(not_finite == 129'999);

    std::vector<float> masters(70'000, 1.0f + 0x1p-9f);
    masters.back() = 3;
    std::vector<ls::bf16> weights(masters.size());
    cpu::round(std::span(masters), std::span(weights));
    CHECK(static_cast<float>(ls::to_compute(weights[0])) == 1.0f);
    CHECK(static_cast<float>(ls::to_compute(weights.back())) == 3.0f);

    std::mt19937 random(1);
    test::matrix<float> from(600, 5), to(600, 5, 2);
    from.fill_random(random);
    cpu::copy(from.view(), to.view());
    bool same = true;
    for (ls::index r = 0; r < 600; ++r) {
        for (ls::index c = 0; c < 5; ++c) same = same && from(r, c) == to(r, c);
    }
    CHECK(same);
    CHECK(to.intact());
}

TEST_CASE("cpu: sums in bf16 are rounded to nearest even once; what is less than half of a sum's last place is lost") {
    std::vector<ls::bf16> sums(200'001, ls::bf16(1.0f));
    std::vector<float> added(sums.size(), 0x1p-8f);  // half of the last place of 1: to even
    added[1] = 0x1.8p-8f, added[200'000] = -3;
    cpu::add_rounded(std::span(added), std::span(sums));
    CHECK(static_cast<float>(sums[0]) == 1);
    CHECK(static_cast<float>(sums[1]) == 1 + 0x1p-7f);
    CHECK(static_cast<float>(sums[200'000]) == -2);
}

TEST_CASE("cpu: a step under tf32 rounds operands, and the same step in float does not") {
    std::mt19937 random(1);
    test::matrix<float> x(4, 24), w(8, 24), exact(4, 8), rounded(4, 8);
    x.fill_random(random);
    w.fill_random(random);
    cpu::linear<model<ls::fp32>>(x.view(), w.view(), nullptr, exact.view());
    cpu::linear<model<ls::tf32>>(x.view(), w.view(), nullptr, rounded.view());
    double distance = 0;
    for (ls::index r = 0; r < 4; ++r) {
        for (ls::index c = 0; c < 8; ++c) distance = std::max(distance, std::abs(exact.value(r, c) - rounded.value(r, c)));
    }
    CHECK(distance > 1e-6);
    CHECK(distance < 2e-2);
}

TEST_CASE("cpu: what leaves and returns is copied at once, piece by piece") {
    static_assert(ls::transferring<cpu>);
    int here[3] = {1, 2, 3}, away[3] = {};
    const auto pieces = [&](auto&& copy) {
        for (const int i : {0, 2}) copy(reinterpret_cast<std::byte*>(here + i), reinterpret_cast<std::byte*>(away + i), ls::bytes{sizeof(int)});
    };
    cpu::leave(0, pieces);
    CHECK(away[0] == 1);
    CHECK(away[1] == 0);
    CHECK(away[2] == 3);
    here[0] = here[2] = 9;
    cpu::fetch(0, pieces);
    cpu::wait(0);
    CHECK(here[0] == 1);
    CHECK(here[2] == 3);
}
