// SPDX-License-Identifier: Apache-2.0
//
// What is asked of attention under every pattern and every option of the score, whichever kernels answer: Problem is
// attention_problem or hopper_problem.
#pragma once

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

#include "attention_cases.cuh"

namespace cuda_test {

template <template <class, index, class, class> class Problem, index HeadDim>
struct asked_of_attention {
    using bf16 = longspan::bf16;

    static const std::vector<index>& lengths() {
        static const std::vector<index> all{130, 1, 0, 257, 64, 391};
        return all;
    }
    /// Arguments as the device reads them, and as the host does.
    template <longspan::pattern P>
    static void pattern(P, unsigned seed, const typename P::arguments& on_device = {}, const typename P::arguments& on_host = {},
                        const std::vector<index>& documents_ = lengths(), index heads = 4, index key_heads = 2) {
        Problem<P, HeadDim, longspan::score<>, bf16> p(documents(documents_), heads, key_heads, seed, on_device, on_host);
        p.forward(), p.backward();
        const attention_results first = p.results();
        check_accuracy(first, p.exact(), p.unfused(), 1e-5);
        for (auto* a : {&p.out, &p.dq, &p.dk, &p.dv}) a->poison();
        p.forward(), p.backward();
        const attention_results again = p.results();
        CHECK(same_bits(first.out, again.out));
        CHECK(same_bits(first.dq, again.dq));
        CHECK(same_bits(first.dk, again.dk));
        CHECK(same_bits(first.dv, again.dv));
    }
    static void prefixes() {
        using namespace longspan;
        const std::vector<index> prefixes{100, 1, 0, 30, 64, 200};
        const device_array<index> there(prefixes);
        pattern(causal | prefix, 3, {there.data()}, {prefixes.data()});
    }
    /// Patterns whose sides disagree about empty tiles.
    static void sides() {
        using namespace longspan;
        pattern(causal & strided<3>, 4);
        pattern(causal & (strided<3> | first<2>), 4);
        pattern(window<40> | global<5>, 5);
        static constexpr auto map = block_map_of<32, 13>([](index q, index k) { return k <= q && (k == 0 || (q * 7 + k * 3) % 5 < 2); });
        pattern(blocks<map>, 6);
    }
    /// `sees(row, column)` of so many blocks of 32, as both sides read it.
    template <class Sees>
    static void listed(index blocks, unsigned seed, const Sees& sees, const std::vector<index>& documents_ = lengths(), index heads = 4, index key_heads = 2) {
        using namespace longspan;
        std::vector<index> offsets{0}, back_offsets(static_cast<std::size_t>(blocks + 1));
        std::vector<std::int32_t> ids;
        for (index r = 0; r < blocks; ++r) {
            for (index b = 0; b < blocks; ++b) {
                if (sees(r, b)) ids.push_back(static_cast<std::int32_t>(b));
            }
            offsets.push_back(static_cast<index>(ids.size()));
        }
        std::vector<std::int32_t> back_ids(ids.size());
        const block_rows given{offsets.data(), ids.data(), blocks};
        const block_lists here{32, given, transpose(given, blocks, back_offsets.data(), back_ids.data())};
        REQUIRE(complaint<block_list_pattern<4>>(here, 0) == nullptr);
        const device_array<index> d_offsets(offsets), d_back_offsets(back_offsets);
        const device_array<std::int32_t> d_ids(ids), d_back_ids(back_ids);
        const block_lists there{32, {d_offsets.data(), d_ids.data(), blocks}, {d_back_offsets.data(), d_back_ids.data(), blocks}};
        pattern(block_list_of<4>, seed, there, here, documents_, heads, key_heads);
    }
    static void lists() {
        // Row r sees every third block up to itself, and no block at all where r is 4.
        listed(13, 7, [](index r, index b) { return b <= r && b % 3 == r % 3 && r != 4; });
    }
    /// The first keys are seen whole and in part by turns, by more than a hundred tiles of queries.
    static void long_lists() {
        listed(210, 8, [](index r, index b) { return b == r || (b < 4 && (r / 2 % 2 == 0 || b == r % 4)); }, {6700}, 1, 1);
    }
    /// A pattern and the list of all pairs that it shows, blocks of one position: the same tiles, the same order, the same bits.
    template <longspan::pattern P>
    static void its_own_list(P, unsigned seed) {
        using namespace longspan;
        constexpr index most = 400;
        std::vector<index> offsets{0}, back_offsets(most + 1);
        std::vector<std::int32_t> ids;
        for (index q = 0; q < most; ++q) {
            for (index k = 0; k < most; ++k) {
                if (P::contains({}, 0, q, k)) ids.push_back(static_cast<std::int32_t>(k));
            }
            offsets.push_back(static_cast<index>(ids.size()));
        }
        std::vector<std::int32_t> back_ids(ids.size());
        const block_rows given{offsets.data(), ids.data(), most};
        (void)transpose(given, most, back_offsets.data(), back_ids.data());
        const device_array<index> d_offsets(offsets), d_back_offsets(back_offsets);
        const device_array<std::int32_t> d_ids(ids), d_back_ids(back_ids);
        Problem<P, HeadDim, longspan::score<>, bf16> closed(documents(lengths()), 4, 2, seed);
        const block_lists there{1, {d_offsets.data(), d_ids.data(), most}, {d_back_offsets.data(), d_back_ids.data(), most}};
        Problem<block_list_pattern<4>, HeadDim, longspan::score<>, bf16> listed(documents(lengths()), 4, 2, seed, there);
        closed.forward(), closed.backward(), listed.forward(), listed.backward();
        const attention_results a = closed.results(), b = listed.results();
        CHECK(same_bits(a.out, b.out));
        CHECK(same_bits(a.lse, b.lse));
        CHECK(same_bits(a.dq, b.dq));
        CHECK(same_bits(a.dk, b.dk));
        CHECK(same_bits(a.dv, b.dv));
    }
    /// A pattern's numbers may stand in device memory and change between calls.
    static void later_numbers() {
        using namespace longspan;
        using P = both<causal_pattern, window_up_to_pattern>;
        Problem<P, HeadDim, longspan::score<>, bf16> p(documents(lengths()), 2, 2, 8);
        for (const index width : {2, 90, 1000}) {
            CAPTURE(width);
            const device_array<window_width> there(std::vector<window_width>{{width}});
            p.host_arguments = {width};
            p.from_device = there.data();
            p.forward(), p.backward();
            check_accuracy(p.results(), p.exact(), p.unfused(), 1e-5);
        }
    }

    template <class P, class Score, class T = bf16>
    static void score(unsigned seed, double floor = 1e-5, index heads = 3, index key_heads = 3) {
        // Documents' first positions are no multiples of 16, so that dropout's groups of keys begin within tiles.
        std::vector<attention_segment> segments = documents({131, 1, 0, 200, 64});
        segments[3].query_position = segments[3].key_position = 37;
        Problem<P, HeadDim, Score, T> p(segments, heads, key_heads, seed);
        p.forward(), p.backward();
        const attention_results first = p.results();
        check_accuracy(first, p.exact(), p.unfused(), floor);
        if (Score::sink) p.d_sinks.zero();
        p.forward(), p.backward();
        CHECK(same_bits(first.out, p.results().out));
        CHECK(same_bits(first.dq, p.results().dq));
        CHECK(same_bits(first.dk, p.results().dk));
        CHECK(same_bits(first.d_sinks, p.results().d_sinks));
    }
};

}  // namespace cuda_test
