// SPDX-License-Identifier: Apache-2.0
// Whole training steps against their products alone: every GEMM plus attention's two forward and five backward products over the
// pairs which the pattern shows, all at the machine's 512^3 rate. Nothing else is credited: not the norms, the softmax, the
// update, padding, nor what a tile computes beyond the pattern.
#include "machine.hpp"
#include "one_document.hpp"

#include <longspan/data/text_files.hpp>
#include <longspan/longspan.hpp>
#include <longspan/pattern/documents.hpp>

namespace ls = longspan;

namespace {

struct gpt2_124m {
    static constexpr auto shape = ls::decoder_shape{.layers = 12, .width = 768, .heads = 12, .hidden = 3072, .vocabulary = 50304, .context = 1024,
                                                    .norm = ls::norm_kind::layer, .mlp = ls::mlp_kind::gelu_tanh,
                                                    .positions = ls::position_kind::learned, .bias = true};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};

/// examples/01_train_text.cpp's, and the same with another window.
template <ls::index Context, int Window = 512>
struct main_job {
    static constexpr auto shape = ls::decoder_shape{.layers = 3, .width = 256, .heads = 4, .key_value_heads = 2, .hidden = 704,
                                                    .vocabulary = ls::byte_tokens::vocabulary, .context = Context};
    static constexpr auto attention = ls::causal & (ls::window<Window> | ls::first<16>);
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<Context>;
};

/// Pairs that the pattern shows within documents, counted one by one: whole tiles by their area, the rest by their bits.
template <ls::pattern P>
double live_pairs(const ls::piece_table& table) {
    constexpr ls::index tile = 32;
    ls::index pairs = 0;
    for (ls::index p = 0; p < table.count(); ++p) {
        if (table[p].document == ls::padding_document) continue;
        const ls::index from = table[p].position, to = from + table.length(p);
        for (ls::index q = from; q < to; ++q) {
            ls::for_each_run<P>({}, p, {q, q + 1}, {from, to}, tile, [&](const ls::tile_run& run) {
                for (ls::index first = from + run.first * tile; first < from + run.last * tile && first < to; first += tile) {
                    if (run.kind == ls::tile_class::full) pairs += std::min(tile, to - first);
                    else pairs += std::popcount(P::key_bits({}, p, q, first) & ls::bits_of({from, to}, first));
                }
            });
        }
    }
    return static_cast<double>(pairs);
}

/// FLOPs of the products of one step over a batch.
template <class Config>
double products(const ls::token_batch& batch) {
    constexpr auto shape = Config::shape;
    const double pairs = live_pairs<ls::pattern_at<ls::attention_of<Config>, 0>>(batch.table());
    return ls::dense_flops_per_token<Config> * static_cast<double>(batch.counts.tokens) +
           static_cast<double>(shape.layers * shape.heads * shape.head()) * 2 * (2 + 5) * pairs;
}

/// The first full batch of Eigen's headers, as the main job packs them.
template <class Config>
ls::token_batch of_text() {
    auto batches = ls::batches<Config>(ls::text_files({"/usr/include/eigen3"}), {.seed = 42});
    for (int tries = 0; tries < 8; ++tries) {
        const auto step = batches.next_step();
        if (step[0].counts.pieces > 1) return step[0];
    }
    return batches.next_step()[0];
}

template <class Config>
void step(benchmark::State& state, const ls::token_batch& batch) {
    ls::trainer<Config> trainer{ls::seed{1}};
    const double flops = products<Config>(batch), tokens = static_cast<double>(batch.counts.tokens);
    std::string refused;
    const auto m = measure::run(state, [&] { refused = trainer.step(std::span(&batch, 1), 1e-4).refused; });
    if (!refused.empty()) state.SkipWithError(refused.c_str());
    state.counters["tokens/s"] = tokens / m.seconds();
    state.counters["tokens/cpu_s"] = tokens / measure::median(m.cpu);
    state.counters["seconds"] = m.seconds();
    state.counters["cpu_seconds"] = measure::median(m.cpu);
    state.counters["GFLOP"] = 1e-9 * flops;
    state.counters["gemm_512_FLOP/s"] = measure::median(m.gemm_wall);
    state.counters["gemm_512_FLOP/cpu_s"] = measure::median(m.gemm_cpu);
    state.counters["times_products"] = m.times_products(flops);
    state.counters["times_products_cpu"] = m.times_products_cpu(flops);
    state.counters["bytes_per_token"] = ls::plan<Config, ls::host::cpu>.bytes_per_token();
    state.counters["pieces"] = static_cast<double>(batch.counts.pieces);
}

void gpt2_124m_1024(benchmark::State& state) { step<gpt2_124m>(state, one_document<gpt2_124m>()); }
template <ls::index Context>
void main_job_of_text(benchmark::State& state) { step<main_job<Context>>(state, of_text<main_job<Context>>()); }
template <ls::index Context>
void window_1024(benchmark::State& state) {
    using config = main_job<Context, 1024>;
    step<config>(state, one_document<config>());
}

BENCHMARK(gpt2_124m_1024)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
BENCHMARK(main_job_of_text<2048>)->UseManualTime()->Iterations(15)->Unit(benchmark::kMillisecond);
BENCHMARK(main_job_of_text<8192>)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(window_1024<8192>)->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
BENCHMARK(window_1024<65536>)->UseManualTime()->Iterations(2)->Unit(benchmark::kMillisecond);

}  // namespace

LONGSPAN_BENCH_MAIN()
