// SPDX-License-Identifier: Apache-2.0
//
// Hopper's attention (cuda/hopper/attention.cuh), forward and backward: attention_run.cuh says what is printed. bench/attention runs it
// beside its peers, in turns.
#include <longspan/cuda/hopper/attention.cuh>

#include "attention_run.cuh"

namespace {

using namespace longspan;
using namespace measure;
using longspan::index;  // not the C library's
using dropped = score<false, false, false, true>;
using named = std::pair<std::string, std::function<void()>>;
using cuda::hopper::sums;

template <index HeadDim, class Score, class Pattern>
void both_ways(const char* name, const lengths& documents, index heads, index key_heads, const typename Pattern::arguments& here,
               const typename Pattern::arguments& there) {
    time_attention<Pattern, Score, cuda::hopper::attention<Pattern, HeadDim, Score>>({"hopper", name, HeadDim, heads, key_heads, documents}, here, there);
}
template <index HeadDim, class Score = score<>, class Pattern>
named bench(const char* name, const lengths& documents, index heads, index key_heads, Pattern) {
    return {name, [=] { both_ways<HeadDim, Score, Pattern>(name, documents, heads, key_heads, {}, {}); }};
}
/// Also with sums of dQ in any order.
template <index HeadDim, class Pattern>
named both_sums(const char* name, const lengths& documents, index heads, index key_heads, Pattern) {
    return {name, [=] {
                both_ways<HeadDim, score<>, Pattern>(name, documents, heads, key_heads, {}, {});
                using op = cuda::hopper::attention<Pattern, HeadDim, score<>, sums::nondeterministic>;
                time_attention<Pattern, score<>, op>({"hopper", name, HeadDim, heads, key_heads, documents}, {}, {}, "nondeterministic", false);
            }};
}

void prefixes(const char* name) {
    using P = either_of<causal_pattern, prefix_pattern>;
    const lengths prefix{4096};
    const device_values<index> there(prefix);
    both_ways<128, score<>, P>(name, copies(1, 32768), 16, 16, {prefix.data()}, {there.data()});
}

/// 128 × 128 blocks, of which a fifth are seen, anywhere.
void lists(const char* name) {
    constexpr index count = 512;
    using P = block_list_pattern<16>;
    std::vector<index> offsets{0}, back_offsets(count + 1);
    std::vector<std::int32_t> ids;
    for (index r = 0; r < count; ++r) {
        for (index b = 0; b < count; ++b) {
            if (philox4x32(element_counter(r * count + b), key_of({.seed = 3})).word[0] % 5 == 0) ids.push_back(static_cast<std::int32_t>(b));
        }
        offsets.push_back(static_cast<index>(ids.size()));
    }
    std::vector<std::int32_t> back_ids(ids.size());
    const block_lists here{128, {offsets.data(), ids.data(), count}, transpose({offsets.data(), ids.data(), count}, count, back_offsets.data(), back_ids.data())};
    const device_values<index> d_offsets(offsets), d_back_offsets(back_offsets);
    const device_values<std::int32_t> d_ids(ids), d_back_ids(back_ids);
    both_ways<128, score<>, P>(name, copies(1, 65536), 16, 16, here,
                               {128, {d_offsets.data(), d_ids.data(), count}, {d_back_offsets.data(), d_back_ids.data(), count}});
}

}  // namespace

int main(int argc, char** argv) {
    const attention_cases cases{
        {"product", [] { product(); }},
        both_sums<128>("d128_causal_32k", copies(1, 32768), 16, 16, causal),
        both_sums<128>("d128_causal_8x2k", copies(8, 2048), 16, 16, causal),
        both_sums<128>("d128_causal_kv8_16k", copies(1, 16384), 32, 8, causal),
        both_sums<128>("d128_packed", packed, 16, 16, causal),
        bench<128>("d128_causal_2x8k", copies(2, 8192), 16, 16, causal),
        bench<64>("d64_causal_16k", copies(1, 16384), 32, 32, causal),
        bench<64>("d64_causal_16x4k", copies(16, 4096), 12, 12, causal),
        bench<64>("d64_causal_64x1k", copies(64, 1024), 12, 12, causal),
#ifndef LONGSPAN_BENCH_FEW
        bench<128>("d128_full_32k", copies(1, 32768), 16, 16, full),
        bench<128>("d128_full_8x2k", copies(8, 2048), 16, 16, full),
        bench<128>("d128_window1024_64k", copies(1, 65536), 16, 16, causal & window<1024>),
        bench<128>("d128_window4096_64k", copies(1, 65536), 16, 16, causal & window<4096>),
        bench<128>("d128_packed_window_first", packed, 16, 16, causal & (window<1024> | first<64>)),
        bench<64>("d64_window1024_128k", copies(1, 131072), 12, 12, causal & window<1024>),
        bench<128>("d128_dilated_64k", copies(1, 65536), 16, 16, causal & dilated_window<1024, 8>),
        {"d128_prefix_32k", [] { prefixes("d128_prefix_32k"); }},
        {"d128_blocks_64k", [] { lists("d128_blocks_64k"); }},
        bench<128, dropped>("d128_causal_2x8k_dropout", copies(2, 8192), 16, 16, causal),
        bench<64, dropped>("d64_causal_16k_dropout", copies(1, 16384), 32, 32, causal),
        bench<256>("d256_causal_16k", copies(1, 16384), 8, 8, causal),
#endif
    };
    return run_cases(cases, argc, argv);
}
