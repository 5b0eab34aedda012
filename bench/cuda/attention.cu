// SPDX-License-Identifier: Apache-2.0
//
// The portable kernels of attention (cuda/attention.cuh), forward and backward: attention_run.cuh says what is printed. bench/attention
// runs them beside PyTorch's.
#include "attention_run.cuh"

namespace {

using namespace longspan;
using namespace measure;
using longspan::index;  // not the C library's

template <index HeadDim, class Pattern, class Score = score<>>
auto bench(const char* name, lengths documents, index heads, index key_heads, Pattern) {
    return std::pair<std::string, std::function<void()>>(name, [=] {
        time_attention<Pattern, Score, cuda::attention<Pattern, HeadDim, Score>>({"portable", name, HeadDim, heads, key_heads, documents}, {}, {});
    });
}

}  // namespace

int main(int argc, char** argv) {
    const attention_cases cases{
        {"product", [] { product(); }},
        bench<128>("d128_causal_2x8k", copies(2, 8192), 16, 16, causal),
        bench<128>("d128_causal_32k", copies(1, 32768), 16, 16, causal),
        bench<128>("d128_causal_8x2k", copies(8, 2048), 16, 16, causal),
        bench<64>("d64_causal_16k", copies(1, 16384), 32, 32, causal),
        bench<64>("d64_causal_4x4k", copies(4, 4096), 32, 32, causal),
#ifndef LONGSPAN_BENCH_FEW
        bench<128>("d128_full_32k", copies(1, 32768), 16, 16, full),
        bench<128>("d128_full_8x2k", copies(8, 2048), 16, 16, full),
        bench<64>("d64_full_16k", copies(1, 16384), 32, 32, full),
        bench<128>("d128_causal_kv8_16k", copies(1, 16384), 32, 8, causal),
        bench<128>("d128_packed", packed, 16, 16, causal),
        bench<128>("d128_window1024_64k", copies(1, 65536), 16, 16, causal & window<1024>),
        bench<64>("d64_window1024_128k", copies(1, 131072), 12, 12, causal & window<1024>),
        bench<128, causal_pattern, score<false, false, false, true>>("d128_causal_2x8k_dropout", copies(2, 8192), 16, 16, causal),
#endif
    };
    return run_cases(cases, argc, argv);
}
