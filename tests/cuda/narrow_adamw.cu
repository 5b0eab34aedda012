// SPDX-License-Identifier: Apache-2.0
//
// Updates of narrow state on the device, held against the host's to the bit, in one launch and cut as buckets are.
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include <longspan/cuda/narrow_adamw.cuh>
#include <longspan/host/narrow_adamw.hpp>

#include "../host/narrow_adamw.hpp"
#include "support.cuh"

namespace narrow {

using namespace cuda_test;

namespace {

/// Copies of a state's arrays on the device, by where they lie on the host.
class copies {
public:
    template <class T>
    T* operator()(std::vector<T>& from) {
        auto& made = all_[from.data()];
        if (!made) {
            std::vector<std::byte> raw(std::as_bytes(std::span(from)).begin(), std::as_bytes(std::span(from)).end());
            made = std::make_unique<device_array<std::byte>>(raw);
        }
        return reinterpret_cast<T*>(made->data());
    }
    template <class T>
    void bring_home(std::vector<T>& to) const {
        if (to.empty()) return;
        const std::vector<std::byte> raw = all_.at(to.data())->get();
        std::memcpy(to.data(), raw.data(), raw.size());
    }

private:
    std::map<const void*, std::unique_ptr<device_array<std::byte>>> all_;
};

template <class State>
void check_same(const State& a, const State& b) {
    CHECK(same_bits(a.masters, b.masters));
    CHECK(same_bits(a.weights, b.weights));
    CHECK(same_bits(a.first, b.first));
    CHECK(same_bits(a.second, b.second));
    CHECK(same_bits(a.first_scales, b.first_scales));
    CHECK(same_bits(a.second_scales, b.second_scales));
}

template <class Master, class Weight, class Moment>
void like_the_host(index size, bool in_parts) {
    CAPTURE(size);
    using state_type = state<Master, Weight, Moment>;
    constexpr index each = state_type::run_type::granularity;
    const own_stream stream;
    state_type host(size), home(size);
    copies there;
    const device_array<adamw_update> scalars(std::vector<adamw_update>(updates, updates + 2));
    const device_array<std::uint64_t> seed(std::vector<std::uint64_t>{42});
    device_array<index> number(std::vector<index>{0});
    device_array<int> apply(std::vector<int>{1});
    const rounding_source source{seed.data(), number.data()};
    for (index t = 1; t <= 3; ++t) {
        const std::vector<float> g = gradients_of(size, static_cast<unsigned>(t));
        const device_array<float> gradients(g);
        const std::uint64_t host_seed = 42;
        host::narrow_adamw_step(host.run(g, 0, size), updates, rounding_source{&host_seed, &t}.key());
        number.put({t});
        for (const int applied : {1, 0}) {  // one that is skipped changes nothing
            apply.put({applied});
            for (index at = 0, length = in_parts ? each : size; at < size; at += length, length = 3 * length + each) {
                length = std::min(length, size - at);
                cuda::narrow_adamw(stream, home.run(gradients.data(), at, at + length, there), scalars.data(), source, apply.data());
            }
            stream.wait();
            state_type now = home;
            const auto fetch = [&](auto& from, auto& to) {
                there.bring_home(from);
                to = from;
            };
            fetch(home.masters, now.masters);
            fetch(home.weights, now.weights);
            fetch(home.first, now.first);
            fetch(home.second, now.second);
            fetch(home.first_scales, now.first_scales);
            fetch(home.second_scales, now.second_scales);
            check_same(now, host);
        }
    }
}

template <class Master, class Weight, class Moment>
void at_every_size() {
    constexpr index each = state<Master, Weight, Moment>::run_type::granularity;
    for (const index size : {each, 3 * each, 17 * each, 1000 * each}) like_the_host<Master, Weight, Moment>(size, false);
    like_the_host<Master, Weight, Moment>(index{1056} * 2048 + 5 * each, false);  // more than the thread blocks take at once
    like_the_host<Master, Weight, Moment>(333 * each, true);
}

}  // namespace

TEST_CASE("cuda narrow adamw: the host's bits in every format, in one launch and in parts") {
    at_every_size<void, bf16, eight_bit>();
    at_every_size<float, bf16, eight_bit>();
    at_every_size<float, void, bf16>();
    at_every_size<void, bf16, bf16>();
    at_every_size<void, bf16, float>();
}

TEST_CASE("cuda narrow adamw: sentences for what does not fit") {
    const own_stream stream;
    state<void, bf16, eight_bit> s(512);
    copies there;
    const device_array<float> gradients(std::vector<float>(512, 1.0f));
    const device_array<adamw_update> scalars(std::vector<adamw_update>(updates, updates + 2));
    const device_array<std::uint64_t> seed(std::vector<std::uint64_t>{42});
    const device_array<index> number(std::vector<index>{1});
    const device_array<int> apply(std::vector<int>{1});
    const rounding_source source{seed.data(), number.data()};
    const auto run = [&](index begin, index end, auto&& change) {
        auto of = s.run(gradients.data(), begin, end, there);
        change(of);
        cuda::narrow_adamw(stream, of, scalars.data(), source, apply.data());
    };
    const auto nothing = [](auto&) {};
    run(0, 0, nothing);
    CHECK_THROWS_WITH_AS(run(128, 512, nothing), "narrow_adamw: expected a run that begins and ends at multiples of 256 elements, got one of 384 from 128", bad_argument);
    CHECK_THROWS_AS(run(0, 512, [](auto& of) { of.first.scales = nullptr; }), bad_argument);
    CHECK_THROWS_AS(run(0, 512, [](auto& of) { of.weights += 1; }), bad_argument);
    CHECK_THROWS_AS(run(0, 512, [](auto& of) { of.decays = nullptr; }), bad_argument);
    stream.wait();
}

}  // namespace narrow
