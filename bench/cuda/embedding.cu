// SPDX-License-Identifier: Apache-2.0
//
// Embedding, forward and backward, with ids as often as in text (Zipf: the k-th as often as 1 / k) and with a vocabulary of bytes, where
// one id owns a sixth of the tokens; and learned positions. Bytes: ids and x (or dx) once, each row of the table that occurs once
// (its gradient twice: read and written). What a table larger than the cache is read again, because its ids lie far apart, is not
// counted.
#include <random>

#include <longspan/batch/permutation.hpp>
#include <longspan/cuda/embedding.cuh>
#include <longspan/cuda/position.cuh>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

std::vector<std::int32_t> zipf_ids(index tokens, index vocabulary) {
    std::mt19937_64 engine(1);
    std::vector<double> weights(static_cast<std::size_t>(vocabulary));
    for (std::size_t k = 0; k < weights.size(); ++k) weights[k * 7919 % weights.size()] = 1.0 / static_cast<double>(k + 1);
    std::discrete_distribution<std::int32_t> draw(weights.begin(), weights.end());
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    for (auto& id : ids) id = draw(engine);
    return ids;
}

template <index Width>
void lookup(const measure::memory_bound& report, index tokens, index vocabulary) {
    const cudaStream_t stream = report.stream();
    const auto ids = zipf_ids(tokens, vocabulary);
    std::vector<std::int32_t> order(ids.size());
    sort_tokens(ids, vocabulary, order);
    double rows = 0;
    for (std::size_t i = 0; i < order.size(); ++i)
        rows += i == 0 || ids[static_cast<std::size_t>(order[i])] != ids[static_cast<std::size_t>(order[i - 1])];
    const device_values<std::int32_t> d_ids(ids), d_order(order);
    const device_values<bf16> table(vocabulary * Width), x(tokens * Width);
    const device_values<float> gradient(vocabulary * Width);
    const device_values<std::byte> workspace(cuda::embedding_backward_workspace(tokens, Width));
    const device_values<index> bad(std::vector<index>{INT64_MAX});
    const auto t = static_cast<double>(tokens), c = static_cast<double>(Width);
    const std::string of = " bf16 [" + std::to_string(tokens) + ", " + std::to_string(Width) + "], vocabulary " + std::to_string(vocabulary);
    report.case_of("embed" + of, 4 * t + 2 * c * (t + rows), [&] {
        cuda::embed<Width>(stream, d_ids.data(), matrix_view<const bf16>(table.data(), vocabulary, Width), matrix_view(x.data(), tokens, Width), bad.data());
    });
    report.case_of("embedding_backward" + of, 8 * t + 2 * c * t + 8 * c * rows, [&] {
        cuda::embedding_backward<Width>(stream, matrix_view<const bf16>(x.data(), tokens, Width), d_ids.data(), d_order.data(),
                                        matrix_view(gradient.data(), vocabulary, Width), workspace.data());
    });
    // A variant that is not taken: pieces as long as one wave of thread blocks needs, up to 384 tokens. Seven blocks of 128 threads are on
    // a multiprocessor at once, of 132.
    const index blocks = Width / 8 / cuda::detail::even_share(Width / 8, 128), share = round_up(ceil_div(tokens * blocks, 7 * 132), 8);
    report.case_of("embedding_backward, one wave" + of, 8 * t + 2 * c * t + 8 * c * rows, [&] {
        cuda::detail::embedding_sums<Width, 384, bf16>(stream, matrix_view<const bf16>(x.data(), tokens, Width), d_ids.data(), d_order.data(),
                                                       share < 128 ? 128 : share < 384 ? share : 384, matrix_view(gradient.data(), vocabulary, Width),
                                                       workspace.data());
    });
}

template <index Width>
void positions(const measure::memory_bound& report, index tokens, index context) {
    const cudaStream_t stream = report.stream();
    std::vector<piece> documents;
    for (index begin = 0; begin < tokens; begin += context) documents.push_back({begin, 0, begin});
    const device_values<piece> d_documents(documents);
    const piece_table pieces{{d_documents.data(), d_documents.size()}, tokens};
    const device_values<bf16> table(context * Width), x(tokens * Width);
    const device_values<float> gradient(context * Width);
    const matrix_view xs(x.data(), tokens, Width);
    const double bytes = 2.0 * static_cast<double>(tokens * Width), rows = static_cast<double>(context * Width);
    const std::string of = " bf16 [" + std::to_string(tokens) + ", " + std::to_string(Width) + "], documents of " + std::to_string(context);
    report.case_of("add_learned_positions" + of, 2 * bytes + 2 * rows, [&] {
        cuda::add_learned_positions<Width>(stream, pieces, matrix_view<const bf16>(table.data(), context, Width), xs);
    });
    report.case_of("learned_positions_backward" + of, bytes + 8 * rows, [&] {
        cuda::learned_positions_backward<Width>(stream, pieces, matrix_view<const bf16>(xs), matrix_view(gradient.data(), context, Width));
    });
    report.case_of("add_sinusoidal_positions" + of, 2 * bytes, [&] { cuda::add_sinusoidal_positions<Width>(stream, pieces, xs); });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::lookup<1024>(report, 262144, 256);
    longspan::lookup<4096>(report, 65536, 256);
    longspan::lookup<768>(report, 262144, 50304);
    longspan::lookup<4096>(report, 65536, 131072);
    longspan::lookup<2048>(report, 1048576, 256);
    longspan::positions<768>(report, 262144, 1024);
    longspan::positions<4096>(report, 65536, 4096);
}
