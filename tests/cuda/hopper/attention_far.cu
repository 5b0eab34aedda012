// SPDX-License-Identifier: Apache-2.0
//
// One document of up to a million tokens, held against a few of its rows in double: the last queries, which see the last keys alone, and
// some before them.
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>

namespace cuda_test {
namespace {

using longspan::bf16;

constexpr index width = 128, tail = 32, others = 4;

template <int = 0>
__global__ void draw_values(bf16* to, index count, unsigned seed) {
    const index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const auto drawn = longspan::philox4x32(longspan::element_counter(i), longspan::key_of({.seed = seed}));
    to[i] = bf16(sqrtf(-2 * logf((static_cast<float>(drawn.word[0] >> 8) + 0.5f) * 0x1p-24f)) * cospif(2 * longspan::uniform(drawn.word[1])));
}

/// Results of the queries in `rows`, the last `tail` of which are the last of all, and of the last `tail` keys.
template <class Real, class Operand, class Stored>
attention_results causal_rows(const std::vector<bf16> (&x)[4], const std::vector<index>& rows, index tokens, Operand operand, Stored stored) {
    const auto at = [&](int which, index row, index d) { return static_cast<Real>(longspan::to_compute(x[which][static_cast<std::size_t>(row * width + d)])); };
    const auto number = rows.size(), wide = static_cast<std::size_t>(width);
    attention_results r{std::vector<double>(number * wide), std::vector<double>(number), std::vector<double>(number * wide), std::vector<double>(tail * wide),
                        std::vector<double>(tail * wide), {}};
    std::vector<std::vector<Real>> probabilities(number), gradients(number);
    const Real scale = 1 / std::sqrt(static_cast<Real>(width));
#pragma omp parallel for schedule(dynamic)
    for (std::size_t n = 0; n < number; ++n) {
        const index row = rows[n];
        std::vector<Real> p(static_cast<std::size_t>(row + 1)), ds(p.size()), out(wide), dq(wide);
        Real top = -std::numeric_limits<Real>::infinity(), total = 0, delta = 0;
        for (index j = 0; j <= row; ++j) {
            Real sum = 0;
            for (index d = 0; d < width; ++d) sum += at(0, row, d) * at(1, j, d);
            top = std::max(top, p[static_cast<std::size_t>(j)] = sum * scale);
        }
        for (Real& e : p) total += e = std::exp(e - top);
        r.lse[n] = static_cast<double>(top + std::log(total));
        for (index j = 0; j <= row; ++j) {
            const Real e = static_cast<Real>(operand(static_cast<double>(p[static_cast<std::size_t>(j)] /= total)));
            for (index d = 0; d < width; ++d) out[static_cast<std::size_t>(d)] += e * at(2, j, d);
        }
        for (index d = 0; d < width; ++d) {
            const auto c = static_cast<std::size_t>(d);
            r.out[n * wide + c] = stored(static_cast<double>(out[c]));
            delta += at(3, row, d) * static_cast<Real>(r.out[n * wide + c]);
        }
        for (index j = 0; j <= row; ++j) {
            Real dp = 0;
            for (index d = 0; d < width; ++d) dp += at(3, row, d) * at(2, j, d);
            const auto c = static_cast<std::size_t>(j);
            ds[c] = static_cast<Real>(operand(static_cast<double>(p[c] * (dp - delta) * scale)));
            for (index d = 0; d < width; ++d) dq[static_cast<std::size_t>(d)] += ds[c] * at(1, j, d);
        }
        for (std::size_t d = 0; d < wide; ++d) r.dq[n * wide + d] = stored(static_cast<double>(dq[d]));
        probabilities[n] = std::move(p), gradients[n] = std::move(ds);
    }
    for (index j = 0; j < tail; ++j) {
        std::vector<Real> dk(wide), dv(wide);
        for (std::size_t n = others; n < number; ++n) {
            const auto key = static_cast<std::size_t>(tokens - tail + j);
            if (key >= probabilities[n].size()) continue;
            for (index d = 0; d < width; ++d) {
                dv[static_cast<std::size_t>(d)] += static_cast<Real>(operand(static_cast<double>(probabilities[n][key]))) * at(3, rows[n], d);
                dk[static_cast<std::size_t>(d)] += gradients[n][key] * at(0, rows[n], d);
            }
        }
        for (std::size_t d = 0; d < wide; ++d) {
            r.dk[static_cast<std::size_t>(j) * wide + d] = stored(static_cast<double>(dk[d]));
            r.dv[static_cast<std::size_t>(j) * wide + d] = stored(static_cast<double>(dv[d]));
        }
    }
    return r;
}

void check_far(index tokens) {
    CAPTURE(tokens);
    using op = longspan::cuda::hopper::attention<longspan::causal_pattern, width>;
    const own_stream stream;
    const auto elements = static_cast<std::size_t>(tokens * width);
    device_array<bf16> q(elements), k(elements), v(elements), d_out(elements), out(elements), dq(elements), dk(elements), dv(elements);
    unsigned seed = 40;
    for (auto* a : {&q, &k, &v, &d_out}) {
        draw_values<><<<static_cast<unsigned>((tokens * width + 255) / 256), 256>>>(a->data(), tokens * width, ++seed);
        longspan::cuda::check_launch("test");
    }
    device_array<float> lse(static_cast<std::size_t>(tokens));
    device_array<std::byte> room(static_cast<std::size_t>(op::backward_workspace(tokens, 1, 1)));
    device_array<std::byte> memory(static_cast<std::size_t>(longspan::cuda::attention_segment_memory(tokens, 1)));
    const auto list = documents({tokens});
    auto* const segments = reinterpret_cast<attention_segment*>(memory.data());
    longspan::cuda::check(cudaMemcpy(segments, list.data(), sizeof(attention_segment), cudaMemcpyHostToDevice), "test");
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    longspan::cuda::schedule_segments(stream, segments, 1, tokens, tokens);
    const auto view = [&](device_array<bf16>& a) { return longspan::matrix_view<bf16>(a.data(), tokens, width); };
    const longspan::cuda::statistic_view<float> statistics(lse.data(), tokens, 1, 1, 1);
    op::forward(stream, view(q), view(k), view(v), {segments, 1}, {}, {}, view(out), statistics, room.data());
    op::backward(stream, view(q), view(k), view(v), {segments, 1}, {}, {}, view(d_out), view(out), statistics, {}, view(dq), view(dk), view(dv), accumulate::no,
                 nullptr, room.data());
    stream.wait();

    std::vector<index> rows{0, tokens / 7, tokens / 2 + 1, tokens - 1000};
    static_assert(others == 4);
    for (index i = tokens - tail; i < tokens; ++i) rows.push_back(i);
    const std::vector<bf16> x[4]{q.get(), k.get(), v.get(), d_out.get()};
    attention_results got;
    const std::vector<double> all_lse = doubles(lse.get());
    const std::vector<bf16> all_out = out.get(), all_dq = dq.get(), all_dk = dk.get(), all_dv = dv.get();
    const auto take = [&](std::vector<double>& to, const std::vector<bf16>& from, index row) {
        for (index d = 0; d < width; ++d) to.push_back(static_cast<double>(longspan::to_compute(from[static_cast<std::size_t>(row * width + d)])));
    };
    for (const index row : rows) take(got.out, all_out, row), take(got.dq, all_dq, row), got.lse.push_back(all_lse[static_cast<std::size_t>(row)]);
    for (index j = tokens - tail; j < tokens; ++j) take(got.dk, all_dk, j), take(got.dv, all_dv, j);
    const auto same = [](double y) { return y; };
    const auto rounded = [](double y) { return static_cast<double>(longspan::round_to<bf16>(static_cast<float>(y))); };
    check_accuracy(got, causal_rows<double>(x, rows, tokens, same, same), causal_rows<float>(x, rows, tokens, rounded, rounded), 1e-5);
}

}  // namespace

TEST_CASE("hopper attention: a document of 65,536 tokens") { check_far(65536); }
TEST_CASE("hopper attention: a document of a million tokens") { check_far(1000003); }

}  // namespace cuda_test
