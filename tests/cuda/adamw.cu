// SPDX-License-Identifier: Apache-2.0
//
// AdamW over a store on the device, held against the host's to the bit.
#include <longspan/cuda/adamw.cuh>
#include <longspan/host/adamw.hpp>

#include "support.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

constexpr adamw_update decaying{.gradient_factor = 0.37, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .kept = 1 - 3e-4 * 0.1, .step = 3e-4 / (1 - 0.81), .root_factor = 1.7};
constexpr adamw_update plain{.gradient_factor = 0.37, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .kept = 1, .step = 3e-4 / (1 - 0.81), .root_factor = 1.7};

struct state {
    std::vector<float> masters, first, second;
};

template <class Weight>
void like_the_host(std::size_t size, bool copy) {
    CAPTURE(size);
    const own_stream stream;
    state host{random_values<float>(size, 1), std::vector<float>(size, 0.0f), std::vector<float>(size, 0.0f)};
    std::vector<Weight> weights(size);
    device_array<float> masters(host.masters), first(host.first), second(host.second);
    device_array<Weight> d_weights(size);
    std::vector<std::uint8_t> decays((size + 127) / 128);
    for (std::size_t i = 0; i < decays.size(); ++i) decays[i] = i % 3 != 0;
    const device_array<std::uint8_t> d_decays(decays);
    const device_array<adamw_update> updates(std::vector<adamw_update>{decaying, plain});
    device_array<int> apply(std::vector<int>{1});
    for (int step = 0; step < 3; ++step) {
        auto gradients = random_values<float>(size, static_cast<unsigned>(10 + step), step == 1 ? 1e-20 : 1.0);  // subnormal squares, too
        if (size > 2) gradients[1] = 0;
        device_array<float> d_gradients(gradients);
        for (std::size_t begin = 0; begin < size; begin += 128) {
            const std::size_t count = std::min<std::size_t>(128, size - begin);
            const auto part = [&](auto& all) { return std::span(all).subspan(begin, count); };
            host::adamw_step(part(host.masters), part(weights), std::span<const float>(part(gradients)), part(host.first), part(host.second), decays[begin / 128] ? decaying : plain);
        }
        const auto all = [&](auto& array) { return std::span(array.data(), size); };
        cuda::adamw(stream, all(masters), copy ? all(d_weights) : std::span<Weight>{}, all(d_gradients), all(first), all(second), d_decays.data(), updates.data(), apply.data());
        CHECK(same_bits(masters.get(), host.masters));
        CHECK(same_bits(first.get(), host.first));
        CHECK(same_bits(second.get(), host.second));
        if (copy) CHECK(same_bits(d_weights.get(), weights));
        // A step that is skipped changes nothing.
        apply.put({0});
        cuda::adamw(stream, all(masters), copy ? all(d_weights) : std::span<Weight>{}, all(d_gradients), all(first), all(second), d_decays.data(), updates.data(), apply.data());
        CHECK(same_bits(masters.get(), host.masters));
        CHECK(same_bits(first.get(), host.first));
        CHECK(same_bits(second.get(), host.second));
        apply.put({1});
    }
}

}  // namespace

TEST_CASE_TEMPLATE("cuda adamw: the host's bits, decay by groups, any length", Weight, bf16, fp16, float) {
    for (const std::size_t size : {1, 3, 4, 127, 129, 1024, 1025, 100003}) like_the_host<Weight>(size, true);
    like_the_host<Weight>(5000, false);
}

TEST_CASE("cuda adamw: weights that are the masters themselves") {
    const own_stream stream;
    const std::size_t size = 640;
    std::vector<float> p = random_values<float>(size, 1), m(size, 0.0f), v(size, 0.0f);
    const auto g = random_values<float>(size, 2);
    device_array<float> masters(p), first(m), second(v), gradients(g);
    const device_array<std::uint8_t> decays(std::vector<std::uint8_t>(5, 1));
    const device_array<adamw_update> updates(std::vector<adamw_update>{decaying, plain});
    const device_array<int> apply(std::vector<int>{1});
    const auto all = [&](auto& array) { return std::span(array.data(), size); };
    cuda::adamw(stream, all(masters), all(masters), all(gradients), all(first), all(second), decays.data(), updates.data(), apply.data());
    host::adamw_step(std::span(p), std::span<float>{}, std::span<const float>(g), std::span(m), std::span(v), decaying);
    CHECK(same_bits(masters.get(), p));
    CHECK(same_bits(second.get(), v));
}

TEST_CASE("cuda adamw: an empty store, and sentences for what does not fit") {
    const own_stream stream;
    device_array<float> a(64), b(64), c(64), d(64);
    device_array<bf16> w(64);
    const device_array<std::uint8_t> decays(std::vector<std::uint8_t>(1, 1));
    const device_array<adamw_update> updates(std::vector<adamw_update>{decaying, plain});
    const device_array<int> apply(std::vector<int>{1});
    const auto run = [&](std::size_t masters, std::size_t weights, std::size_t shift, const int* decision) {
        cuda::adamw(stream, std::span(a.data() + shift, masters), std::span(w.data(), weights), std::span(b.data(), masters), std::span(c.data(), masters), std::span(d.data(), masters),
                    decays.data(), updates.data(), decision);
    };
    run(0, 0, 0, apply.data());
    CHECK_THROWS_AS(run(32, 31, 0, apply.data()), bad_argument);
    CHECK_THROWS_AS(run(32, 32, 1, apply.data()), bad_argument);
    CHECK_THROWS_AS(run(32, 32, 0, nullptr), bad_argument);
    stream.wait();
}

}  // namespace longspan
