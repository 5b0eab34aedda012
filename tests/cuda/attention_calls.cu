// SPDX-License-Identifier: Apache-2.0
#include "attention_doors.cuh"

#include <longspan/pattern/band.hpp>

namespace cuda_test {

using longspan::causal_pattern;
using longspan::piece;
using longspan::score;

using problem = attention_problem<causal_pattern, 64, score<>, bf16>;

TEST_CASE("attention: keys in two calls, merged; gradients from the whole's log-sum-exp and delta") {
    problem p(documents({150, 40}), 4, 2, 1);
    std::vector<attention_segment> first = p.segments, second = p.segments;
    for (std::size_t i = 0; i < 2; ++i) {
        first[i].key_count = 33;
        second[i].key_begin += 33, second[i].key_position += 33, second[i].key_count -= 33;
    }
    device_segments early(first, 190, 190, p.stream), late(second, 190, 190, p.stream);
    const auto q = p.view(p.q, 190, 4), k = p.view(p.k, 190, 2), v = p.view(p.v, 190, 2), out = p.view(p.out, 190, 4);
    const matrix_view<float> lse = p.lse.view(190, 4);
    p.settle();
    problem::op::forward(p.stream, q, k, v, early.span(), {}, p.values, out, lse, nullptr);
    problem::op::forward(p.stream, q, k, v, late.span(), {}, p.values, out, lse, nullptr, true);
    p.backward();
    const attention_results merged = p.results(), exact = p.exact(), unfused = p.unfused();
    CHECK(relative_error(merged.out, exact.out) <= 1.6 * relative_error(unfused.out, exact.out));  // rounded twice
    CHECK(relative_error(merged.lse, exact.lse) < 2e-6);
    CHECK(relative_error(merged.dk, exact.dk) <= 1.2 * relative_error(unfused.dk, exact.dk));

    p.forward();  // the whole's out and log-sum-exp
    p.settle();
    const std::vector<double> whole_out = p.take(p.out, 190, 4);
    std::vector<float> deltas(190 * 4);
    for (std::size_t r = 0; r < 190 * 4; ++r)
        for (std::size_t d = 0; d < 64; ++d) deltas[r] += static_cast<float>(p.host.d_out[r * 64 + d] * whole_out[r * 64 + d]);
    const device_array<float> delta(deltas);
    std::vector<double> dq(190 * 256);
    device_array<float> float_dq(190 * 256), float_dk(190 * 128), float_dv(190 * 128);
    float_dk.zero(), float_dv.zero();
    for (auto* part : {&early, &late}) {
        p.settle();
        problem::op::backward(p.stream, q, k, v, part->span(), {}, p.values, p.view(p.d_out, 190, 4), out, lse, delta.constants(190, 4),
                              float_dq.view(190, 256), float_dk.view(190, 128), float_dv.view(190, 128), accumulate::yes, nullptr, p.workspace.data());
        const std::vector<double> share = doubles(float_dq.get());
        for (std::size_t i = 0; i < dq.size(); ++i) dq[i] += share[i];
    }
    CHECK(relative_error(dq, exact.dq) <= 1.05 * relative_error(unfused.dq, exact.dq));
    CHECK(relative_error(doubles(float_dk.get()), exact.dk) <= 1.05 * relative_error(unfused.dk, exact.dk));
    CHECK(relative_error(doubles(float_dv.get()), exact.dv) <= 1.05 * relative_error(unfused.dv, exact.dv));
}

TEST_CASE("attention: queries and keys of different sets; empty sides; what belongs to no segment stays as it is") {
    // Queries continue a prefix of keys; a segment without keys; a segment without queries; tokens 60 to 69 of both belong to none.
    std::vector<attention_segment> segments{{0, 60, 100, 0, 60, 0, 0, 5}, {70, 10, 0, 0, 0, 0, 1, 6}, {80, 0, 0, 70, 20, 0, 2, 7}, {80, 65, 3, 90, 200, 0, 3, 8}};
    problem p(segments, 2, 2, 3);
    p.forward(), p.backward();
    const attention_results got = p.results(), exact = p.exact();
    const auto rows = [](const std::vector<double>& x, std::size_t begin, std::size_t end) {
        return std::vector<double>(x.begin() + static_cast<std::ptrdiff_t>(begin * 128), x.begin() + static_cast<std::ptrdiff_t>(end * 128));
    };
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 60}, {80, 145}}) {
        CHECK(relative_error(rows(got.out, begin, end), rows(exact.out, begin, end)) < 4e-3);
        CHECK(relative_error(rows(got.dq, begin, end), rows(exact.dq, begin, end)) < 6e-3);
    }
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 60}, {90, 290}}) {
        CHECK(relative_error(rows(got.dk, begin, end), rows(exact.dk, begin, end)) < 6e-3);
        CHECK(relative_error(rows(got.dv, begin, end), rows(exact.dv, begin, end)) < 6e-3);
    }
    for (const double x : rows(got.out, 70, 80)) CHECK(x == 0);
    for (const double x : rows(got.dq, 70, 80)) CHECK(x == 0);
    for (const double x : rows(got.dk, 70, 90)) CHECK(x == 0);
    for (const double x : rows(got.dv, 70, 90)) CHECK(x == 0);
    for (std::size_t i = 140; i < 160; ++i) CHECK(got.lse[i] == -std::numeric_limits<double>::infinity());
    for (const auto* x : {&got.out, &got.dq, &got.dk, &got.dv}) {
        for (const double y : rows(*x, 60, 70)) CHECK(std::isnan(y));
    }
}

TEST_CASE("attention: segments from pieces, statistics kept by heads") {
    problem p(documents({0, 70, 1, 200, 0}), 2, 2, 4);
    std::vector<piece> pieces;
    for (const attention_segment& s : p.segments) pieces.push_back({s.document, 0, s.query_begin});
    const device_array<piece> table(pieces);
    device_array<std::byte> memory(static_cast<std::size_t>(longspan::cuda::attention_segment_memory(271, 5)));
    auto* const made = reinterpret_cast<attention_segment*>(memory.data());
    p.settle();
    longspan::cuda::self_attention_segments(p.stream, table.data(), 5, 271, made);
    p.forward(), p.backward();
    const attention_results expected = p.results();
    p.out.poison(), p.dq.poison(), p.dk.poison(), p.dv.poison();
    device_array<float> by_heads(2 * 300);
    const statistic_view<float> lse(by_heads.data(), 271, 2, 1, 300);
    const std::span<const attention_segment> segments(made, 5);
    p.settle();
    problem::op::forward(p.stream, p.view(p.q, 271, 2), p.view(p.k, 271, 2), p.view(p.v, 271, 2), segments, {}, p.values, p.view(p.out, 271, 2), lse, nullptr);
    problem::op::backward(p.stream, p.view(p.q, 271, 2), p.view(p.k, 271, 2), p.view(p.v, 271, 2), segments, {}, p.values, p.view(p.d_out, 271, 2),
                          p.view(p.out, 271, 2), lse, {}, p.view(p.dq, 271, 2), p.view(p.dk, 271, 2), p.view(p.dv, 271, 2), accumulate::no, nullptr,
                          p.workspace.data());
    attention_results got = p.results();
    const std::vector<float> statistics = by_heads.get();
    for (std::size_t i = 0; i < 271; ++i)
        for (std::size_t h = 0; h < 2; ++h) CHECK(static_cast<double>(statistics[h * 300 + i]) == expected.lse[i * 2 + h]);
    CHECK(same_bits(got.out, expected.out));
    CHECK(same_bits(got.dq, expected.dq));
    CHECK(same_bits(got.dk, expected.dk));
    CHECK(same_bits(got.dv, expected.dv));
}

TEST_CASE("attention: a captured call replayed for another batch") {
    problem p(documents({90, 171}), 2, 1, 5);
    p.forward(), p.backward();
    const attention_results expected = p.results();
    const std::vector<attention_segment> other = documents({261, 0});
    std::vector<piece> pieces{{other[0].document, 0, 0}, {other[1].document, 0, 261}};
    device_array<piece> table(pieces);
    cudaStream_t stream = static_cast<longspan::cuda::stream_ref>(p.stream);
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    p.settle();
    longspan::cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "test");
    longspan::cuda::self_attention_segments(p.stream, table.data(), 2, 261, p.device_segments());
    const auto q = p.view(p.q, 261, 2), out = p.view(p.out, 261, 2);
    const auto k = p.view(p.k, 261, 1), v = p.view(p.v, 261, 1);
    problem::op::forward(p.stream, q, k, v, p.device_span(), {}, p.values, out, p.lse.view(261, 2), nullptr);
    problem::op::backward(p.stream, q, k, v, p.device_span(), {}, p.values, p.view(p.d_out, 261, 2), out, p.lse.view(261, 2), {}, p.view(p.dq, 261, 2),
                          p.view(p.dk, 261, 1), p.view(p.dv, 261, 1), accumulate::no, nullptr, p.workspace.data());
    longspan::cuda::check(cudaStreamEndCapture(stream, &graph), "test");
    longspan::cuda::check(cudaGraphInstantiate(&ready, graph, 0), "test");
    longspan::cuda::check(cudaGraphLaunch(ready, stream), "test");
    p.stream.wait();
    const attention_results whole = p.results();
    p.segments = other;
    check_accuracy(whole, p.exact(), p.unfused(), 1e-5);
    p.segments = documents({90, 171});
    table.put({{p.segments[0].document, 0, 0}, {p.segments[1].document, 0, 90}});
    p.settle();
    longspan::cuda::check(cudaGraphLaunch(ready, stream), "test");
    p.stream.wait();
    CHECK(same_bits(p.results().dq, expected.dq));
    CHECK(same_bits(p.results().dk, expected.dk));
    cudaGraphExecDestroy(ready), cudaGraphDestroy(graph);
}

TEST_CASE("attention: rows beyond 2^31 elements") { attends_beyond_2_31<problem>(); }

TEST_CASE("attention: what does not fit is refused in a sentence, and the device goes on") { refuses_what_does_not_fit<problem>(); }

}  // namespace cuda_test
