// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

namespace cuda_test {

using namespace longspan;

static const std::vector<index> lengths{130, 1, 0, 257, 64, 391};

/// Arguments as the device reads them, and as the host does.
template <pattern P>
void check_pattern(P, unsigned seed, const typename P::arguments& on_device = {}, const typename P::arguments& on_host = {}) {
    attention_problem<P, 64, score<>, bf16> p(documents(lengths), 4, 2, seed, on_device, on_host);
    p.forward(), p.backward();
    const attention_results first = p.results();
    check_accuracy(first, p.exact(), p.unfused(), 1e-5);
    p.forward(), p.backward();
    CHECK(same_bits(first.dq, p.results().dq));
    CHECK(same_bits(first.dk, p.results().dk));
}

TEST_CASE("attention: windows, and windows with global keys") {
    check_pattern(causal & window<100>, 1);
    check_pattern(causal & (window<50> | first<20>), 2);
}

TEST_CASE("attention: prefixes, read from device memory") {
    const std::vector<index> prefixes{100, 1, 0, 30, 64, 200};
    const device_array<index> there(prefixes);
    check_pattern(causal | prefix, 3, {there.data()}, {prefixes.data()});
}

TEST_CASE("attention: patterns whose sides disagree about empty tiles") {
    check_pattern(causal & strided<3>, 4);
    check_pattern(window<40> | global<5>, 5);
    static constexpr auto map = block_map_of<32, 13>([](index q, index k) { return k <= q && (k == 0 || (q * 7 + k * 3) % 5 < 2); });
    check_pattern(blocks<map>, 6);
}

TEST_CASE("attention: lists of blocks in device memory") {
    // Row r sees every third block up to itself, and no block at all where r is 4.
    std::vector<index> offsets{0}, back_offsets(14);
    std::vector<std::int32_t> ids;
    for (index r = 0; r < 13; ++r) {
        for (index b = r % 3; b <= r && r != 4; b += 3) ids.push_back(static_cast<std::int32_t>(b));
        offsets.push_back(static_cast<index>(ids.size()));
    }
    std::vector<std::int32_t> back_ids(ids.size());
    const block_lists here{32, {offsets.data(), ids.data(), 13}, transpose({offsets.data(), ids.data(), 13}, 13, back_offsets.data(), back_ids.data())};
    REQUIRE(complaint<block_list_pattern<4>>(here, 0) == nullptr);
    const device_array<index> d_offsets(offsets), d_back_offsets(back_offsets);
    const device_array<std::int32_t> d_ids(ids), d_back_ids(back_ids);
    const block_lists there{32, {d_offsets.data(), d_ids.data(), 13}, {d_back_offsets.data(), d_back_ids.data(), 13}};
    check_pattern(block_list_of<4>, 7, there, here);
}

TEST_CASE("attention: a pattern's numbers may stand in device memory and change between calls") {
    using P = both<causal_pattern, window_up_to_pattern>;
    attention_problem<P, 64, score<>, bf16> p(documents(lengths), 2, 2, 8);
    for (const index width : {2, 90, 1000}) {
        CAPTURE(width);
        const device_array<window_width> there(std::vector<window_width>{{width}});
        p.host_arguments = {width};
        p.from_device = there.data();
        p.forward(), p.backward();
        check_accuracy(p.results(), p.exact(), p.unfused(), 1e-5);
    }
}

}  // namespace cuda_test
