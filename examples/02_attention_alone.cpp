// SPDX-License-Identifier: Apache-2.0
//
// A kernel at a time: attention on memory of your own, without any of the model code. Three documents lie end to end in one
// batch of 1,000 tokens, 8 query heads share 2 key/value heads, and a query sees the 256 tokens up to its own.
//
//     g++ -std=c++20 -O3 -march=native -fopenmp -I include examples/02_attention_alone.cpp -o attention && ./attention
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <longspan/host/attention.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

namespace ls = longspan;

int main() {
    constexpr ls::index tokens = 1000, heads = 8, key_heads = 2, width = 64;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto filled = [&](ls::index columns) {
        std::vector<float> memory(static_cast<std::size_t>(tokens * columns));
        for (float& x : memory) x = normal(random);
        return memory;
    };
    // Queries, keys and values may be columns of one projection: a view has a stride.
    std::vector<float> projection = filled((heads + 2 * key_heads) * width), d_projection(projection.size());
    const ls::matrix_view<float> all(projection.data(), tokens, (heads + 2 * key_heads) * width);
    const ls::matrix_view<float> d_all(d_projection.data(), tokens, all.columns);
    const auto queries = all.column_range(0, heads * width), d_queries = d_all.column_range(0, heads * width);
    const auto keys = all.column_range(heads * width, key_heads * width), d_keys = d_all.column_range(heads * width, key_heads * width);
    const auto values = all.column_range((heads + key_heads) * width, key_heads * width);
    const auto d_values = d_all.column_range((heads + key_heads) * width, key_heads * width);

    std::vector<float> out_memory(static_cast<std::size_t>(tokens * heads * width)), d_out_memory = filled(heads * width);
    std::vector<float> lse_memory(static_cast<std::size_t>(tokens * heads));
    const ls::matrix_view<float> out(out_memory.data(), tokens, heads * width), d_out(d_out_memory.data(), tokens, heads * width);
    const ls::matrix_view<float> log_sum_exp(lse_memory.data(), tokens, heads);

    const ls::piece pieces[] = {{.document = 0, .begin = 0}, {.document = 1, .begin = 700}, {.document = 2, .begin = 701}};
    ls::host::attention_segment documents[3];
    ls::host::self_attention_segments({pieces, tokens}, documents);

    using attention = ls::host::attention<ls::pattern_of<ls::causal & ls::window<256>>, 64>;
    attention::forward(queries, keys, values, documents, {}, {}, out, log_sum_exp);
    attention::backward(queries, keys, values, documents, {}, {}, d_out, out, log_sum_exp, {}, d_queries, d_keys, d_values,
                        ls::host::accumulate::no, nullptr, nullptr);

    double norm = 0;
    for (const float g : d_projection) norm += static_cast<double>(g) * static_cast<double>(g);
    std::printf("the document of one token returns its value: %s\n", out(700, 0) == values(700, 0) ? "yes" : "no");
    std::printf("norm of the gradient: %.3f\n", std::sqrt(norm));
}
