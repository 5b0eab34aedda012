// SPDX-License-Identifier: Apache-2.0
//
// What every attention of the device is held to, whichever kernels it has: rows beyond 2^31 elements, and arguments that do not fit.
#pragma once

#include "attention_cases.cuh"

namespace cuda_test {

using longspan::bf16;
using longspan::matrix_view;
using longspan::cuda::statistic_view;

/// Segments and their schedule in device memory of their own.
struct device_segments {
    device_array<std::byte> memory;
    std::size_t count;

    device_segments(const std::vector<attention_segment>& list, index query_tokens, index key_tokens, const own_stream& stream)
        : memory(static_cast<std::size_t>(longspan::cuda::attention_segment_memory(query_tokens, key_tokens, static_cast<index>(list.size())))),
          count(list.size()) {
        longspan::cuda::check(cudaMemcpy(memory.data(), list.data(), list.size() * sizeof(attention_segment), cudaMemcpyHostToDevice), "test");
        longspan::cuda::check(cudaDeviceSynchronize(), "test");
        longspan::cuda::schedule_segments(stream, data(), static_cast<index>(count), query_tokens, key_tokens);
    }
    [[nodiscard]] attention_segment* data() { return reinterpret_cast<attention_segment*>(memory.data()); }
    [[nodiscard]] std::span<const attention_segment> span() { return {data(), count}; }
};

/// The last of 66,000 rows, 40,000 elements apart, as the same rows close together.
template <class Problem>
void attends_beyond_2_31() {
    const index rows = 66000, stride = 40000, live = 100;
    const index first = rows - live;
    std::size_t free = 0, total = 0;
    longspan::cuda::check(cudaMemGetInfo(&free, &total), "test");
    if (free < std::size_t{16} << 30) {
        MESSAGE("skipped: less than 16 GiB of free device memory");
        return;
    }
    Problem p(documents({live}), 2, 1, 6);
    p.forward(), p.backward();
    const attention_results expected = p.results();
    device_array<bf16> inputs(static_cast<std::size_t>(rows * stride)), outputs(static_cast<std::size_t>(rows * stride));
    index used = 0;
    const auto place = [&](device_array<bf16>& big, device_array<bf16>& small, index heads) {
        const matrix_view<bf16> at(big.data() + used, rows, heads * 64, stride);
        used += heads * 64;
        longspan::cuda::check(cudaMemcpy2D(at.row(first), static_cast<std::size_t>(stride) * 2, small.data(), static_cast<std::size_t>(heads * 64 + p.gap) * 2,
                                           static_cast<std::size_t>(heads) * 128, static_cast<std::size_t>(live), cudaMemcpyDeviceToDevice), "test");
        return at;
    };
    const auto q = place(inputs, p.q, 2), k = place(inputs, p.k, 1), v = place(inputs, p.v, 1), d_out = place(inputs, p.d_out, 2);
    used = 0;
    for (auto* a : {&p.out, &p.dq, &p.dk, &p.dv}) a->poison();
    const auto out = place(outputs, p.out, 2), dq = place(outputs, p.dq, 2), dk = place(outputs, p.dk, 1), dv = place(outputs, p.dv, 1);
    device_segments segments({{first, live, 0, first, live, 0, 0, 1000}}, rows, rows, p.stream);
    device_array<float> lse(static_cast<std::size_t>(rows * 2));
    device_array<std::byte> workspace(static_cast<std::size_t>(Problem::op::backward_workspace(rows, 2, 1)));
    p.settle();
    Problem::op::forward(p.stream, q, k, v, segments.span(), {}, p.values, out, lse.view(rows, 2), workspace.data());
    Problem::op::backward(p.stream, q, k, v, segments.span(), {}, p.values, d_out, out, lse.view(rows, 2), {}, dq, dk, dv, accumulate::no, nullptr, workspace.data());
    p.settle();
    const auto bring = [&](device_array<bf16>& small, const matrix_view<bf16>& from) {
        longspan::cuda::check(cudaMemcpy2D(small.data(), static_cast<std::size_t>(from.columns + p.gap) * 2, from.row(first), static_cast<std::size_t>(stride) * 2,
                                           static_cast<std::size_t>(from.columns) * 2, static_cast<std::size_t>(live), cudaMemcpyDeviceToDevice), "test");
    };
    bring(p.out, out), bring(p.dq, dq), bring(p.dk, dk), bring(p.dv, dv);
    const attention_results got = p.results();
    CHECK(same_bits(got.out, expected.out));
    CHECK(same_bits(got.dq, expected.dq));
    CHECK(same_bits(got.dk, expected.dk));
    CHECK(same_bits(got.dv, expected.dv));
}

/// Bad arguments, a sentence each; then the same problem, well asked.
template <class Problem>
void refuses_what_does_not_fit() {
    Problem p(documents({20}), 2, 1, 7);
    const auto q = p.view(p.q, 20, 2), out = p.view(p.out, 20, 2);
    const auto k = p.view(p.k, 20, 1), v = p.view(p.v, 20, 1);
    const auto lse = p.lse.view(20, 2);
    const auto refused = [&](const char* part, auto&& call) {
        try {
            call();
            FAIL("expected bad_argument");
        } catch (const longspan::bad_argument& e) {
            CHECK_MESSAGE(std::string(e.what()).find(part) != std::string::npos, e.what());
        }
    };
    const auto forward = [&](auto q_, auto k_, auto v_, auto out_, auto lse_, const score_arguments& a = {}) {
        Problem::op::forward(p.stream, q_, k_, v_, p.device_span(), {}, a, out_, statistic_view<float>(lse_), p.workspace.data());
    };
    refused("whole heads of 64", [&] { forward(q.column_range(0, 72), k, v, out.column_range(0, 72), lse); });
    refused("values", [&] { forward(q, k, v.row_range(0, 19), out, lse); });
    refused("out", [&] { forward(q, k, v, out.row_range(0, 19), lse); });
    refused("lse", [&] { forward(q, k, v, out, p.lse.view(20, 1)); });
    refused("multiple of 16 bytes", [&] { forward(matrix_view<bf16>(q.data + 4, 20, 128, q.stride), k, v, out, lse); });
    refused("a null pointer", [&] { forward(matrix_view<bf16>(nullptr, 20, 128, q.stride), k, v, out, lse); });
    refused("scale", [&] { forward(q, k, v, out, lse, {.scale = -1.0}); });
    refused("workspace", [&] {
        Problem::op::backward(p.stream, q, k, v, p.device_span(), {}, {}, p.view(p.d_out, 20, 2), out, lse, {}, p.view(p.dq, 20, 2), p.view(p.dk, 20, 1),
                              p.view(p.dv, 20, 1), accumulate::no, nullptr, nullptr);
    });
    p.forward(), p.backward();
    check_accuracy(p.results(), p.exact(), p.unfused(), 1e-5);
}

}  // namespace cuda_test
