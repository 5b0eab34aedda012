// SPDX-License-Identifier: Apache-2.0
//
// The ops under the names that layers call: that each name reaches its op with the object's scratch, notes and stream. What the ops
// compute is proved in their own files.
#include <limits>

#include <longspan/core/bad_ids.hpp>
#include <longspan/cuda/ops.cuh>
#include <longspan/layer/context.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/precision/policy.hpp>

#include "pieces_of_batch.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

constexpr decoder_shape shape{.layers = 1, .width = 64, .heads = 2, .key_value_heads = 1, .head_width = 64, .hidden = 64, .vocabulary = 11, .context = 200};
using model = model_of<shape, std::remove_cvref_t<decltype(mixed<bf16>)>>;

/// What a layer is told of a batch, as far as attention looks.
struct layer_context {
    std::span<const attention_segment> segments;
    const run_keys* keys = nullptr;
    bool training = true;
};

}  // namespace

TEST_CASE("cuda ops: parameters are filled, rounded, measured and looked through") {
    constexpr std::size_t count = 5003;
    cuda::device::runtime on(MiB);
    device_array<std::byte> scratch(static_cast<std::size_t>(cuda::device::update_workspace(count)));
    const cuda::device::ops ops(on, scratch.data());
    device_array<float> masters(count);
    device_array<bf16> weights(count);
    device_array<double> sum(1);
    device_array<index> bad(1);
    const std::span<float> all(masters.data(), count);

    ops.fill_normal(all, 9, 3, 0.5);
    ops.round(all, std::span(weights.data(), count));
    ops.sum_of_squares(all, sum.data());
    ops.first_non_finite(all, bad.data());
    on.wait();
    const std::vector<float> drawn = masters.get();
    const std::vector<bf16> rounded = weights.get();
    double expected = 0;
    for (std::size_t i = 0; i < count; ++i) {
        expected += static_cast<double>(drawn[i]) * static_cast<double>(drawn[i]);
        CHECK(rounded[i].bits == bf16(drawn[i]).bits);
    }
    CHECK(sum.get()[0] == doctest::Approx(expected).epsilon(1e-12));
    CHECK(bad.get()[0] == -1);

    std::vector<float> broken = drawn;
    broken[4000] = std::numeric_limits<float>::infinity(), broken[4001] = std::numeric_limits<float>::quiet_NaN();
    masters.put(broken);
    ops.first_non_finite(all, bad.data());
    on.wait();
    CHECK(bad.get()[0] == 4000);

    ops.fill(all, 0.25);
    ops.zero(all.subspan(0, 3));
    on.wait();
    const std::vector<float> filled = masters.get();
    for (std::size_t i = 0; i < count; ++i) CHECK(filled[i] == (i < 3 ? 0.0f : 0.25f));
}

TEST_CASE("cuda ops: a token outside the vocabulary is noted, and a weight's gradient is added to") {
    constexpr index tokens = 24, width = shape.width;
    cuda::device::runtime on(MiB);
    device_array<std::byte> scratch(static_cast<std::size_t>(cuda::device::workspace<model>(tokens)));
    const std::vector<bad_ids> none(1);
    device_array<bad_ids> notes(none);
    const cuda::device::ops ops(on, scratch.data(), notes.data());

    std::vector<std::int32_t> ids(tokens, 3);
    ids[17] = 11, ids[20] = -1;
    const device_array<std::int32_t> ids_there(ids);
    const std::vector<bf16> table = random_values<bf16>(11 * width, 1);
    const device_array<bf16> table_there(table);
    device_array<bf16> x(tokens * width);
    ops.embed<width>(ids_there.data(), table_there.constants(11, width), x.view(tokens, width));
    on.wait();
    CHECK(notes.get()[0].token == 17);
    CHECK(notes.get()[0].target == bad_ids::none);
    const std::vector<bf16> looked_up = x.get();
    for (std::size_t c = 0; c < width; ++c) CHECK(looked_up[5 * width + c].bits == table[3 * width + c].bits);

    const std::vector<bf16> dy = random_values<bf16>(tokens * 8, 2), in = random_values<bf16>(tokens * 16, 4);
    const std::vector<float> before = random_values<float>(8 * 16, 3);
    const device_array<bf16> dy_there(dy), in_there(in);
    device_array<float> dw(before);
    ops.linear_weight_gradient<model>(dy_there.constants(tokens, 8), in_there.constants(tokens, 16), dw.view(8, 16));
    on.wait();
    std::vector<double> expected = doubles(before);
    const std::vector<double> d = doubles(dy), x_of = doubles(in);
    for (std::size_t i = 0; i < 8; ++i)
        for (std::size_t j = 0; j < 16; ++j)
            for (std::size_t t = 0; t < tokens; ++t) expected[i * 16 + j] += d[t * 8 + i] * x_of[t * 16 + j];
    CHECK(relative_error(doubles(dw.get()), expected) < 1e-6);
}

TEST_CASE("cuda ops: a branch's rates and the place of its draws") {
    const run_keys keys{.seed = 5, .step = 6};
    const cuda::branch_thinning thin = cuda::device::ops::thinning(&keys, 3, 2, 0.1, 0.25);
    CHECK(thin.drop.dropout.threshold() == dropout_rate(0.1).threshold());
    CHECK(thin.drop.depth.threshold() == depth_rate(0.25).threshold());
    CHECK(thin.origin.key() == key_of({.seed = 5, .step = 6, .layer = 3, .site = 2}));
}

namespace {

struct attended {
    std::vector<bf16> out, dq, dk, dv;
    std::vector<float> lse;
};

constexpr index rows = 193, query_width = 128, key_width = 64;

/// Forward and backward of one batch through a backend's names.
template <class Device>
attended attend(const std::vector<bf16>& q, const std::vector<bf16>& kv, const std::vector<bf16>& d_out) {
    cuda::device::runtime on(MiB);
    device_array<std::byte> scratch(static_cast<std::size_t>(Device::template workspace<model>(rows)));
    device_array<std::byte> workspace(static_cast<std::size_t>(Device::template attention_workspace<model>(rows)));
    const typename Device::ops ops(on, scratch.data());
    const std::vector<piece> pieces{{1, 0, 0}, {2, 0, 129}, {3, 0, 129}, {4, 0, 130}};
    const device_array<piece> pieces_there(pieces);
    device_array<std::byte> segments(static_cast<std::size_t>(Device::segment_memory(rows, static_cast<index>(pieces.size()))));
    auto* const made = reinterpret_cast<attention_segment*>(segments.data());
    ops.make_segments(piece_table{{pieces_there.data(), pieces.size()}, rows}, made);

    const layer_context c{{made, pieces.size()}, nullptr, true};
    const device_array<bf16> q_there(q), k_there(kv), v_there(kv), d_there(d_out);
    device_array<bf16> out(q.size()), dq(q.size()), dk(kv.size()), dv(kv.size());
    device_array<float> lse(rows * 2);
    ops.template attention_forward<model, causal_pattern>(c, 0, 0, {}, q_there.constants(rows, query_width), k_there.constants(rows, key_width),
                                                          v_there.constants(rows, key_width), static_cast<const float*>(nullptr), out.view(rows, query_width), lse.view(rows, 2));
    ops.template attention_backward<model, causal_pattern>(
        c, 0, 0, {}, q_there.constants(rows, query_width), k_there.constants(rows, key_width), v_there.constants(rows, key_width),
        static_cast<const float*>(nullptr), out.constants(rows, query_width), lse.constants(rows, 2), d_there.constants(rows, query_width),
        dq.view(rows, query_width), dk.view(rows, key_width), dv.view(rows, key_width), static_cast<float*>(nullptr), workspace.data());
    on.wait();
    return {out.get(), dq.get(), dk.get(), dv.get(), lse.get()};
}

}  // namespace

TEST_CASE("cuda ops: Hopper's attention and the portable one stand behind the same names; log-sum-exps are kept head by head") {
    const std::vector<bf16> q = random_values<bf16>(rows * query_width, 1), kv = random_values<bf16>(rows * key_width, 2),
                            d_out = random_values<bf16>(rows * query_width, 3);
    static_assert(cuda::device::on_hopper<model> && !cuda::portable_device::on_hopper<model>);
    const attended a = attend<cuda::device>(q, kv, d_out), b = attend<cuda::portable_device>(q, kv, d_out);
    CHECK(relative_error(doubles(a.out), doubles(b.out)) < 5e-3);
    CHECK(relative_error(doubles(a.dq), doubles(b.dq)) < 1e-2);
    CHECK(relative_error(doubles(a.dk), doubles(b.dk)) < 1e-2);
    CHECK(relative_error(doubles(a.dv), doubles(b.dv)) < 1e-2);
    CHECK(relative_error(doubles(a.lse), doubles(b.lse)) < 1e-5);
    // The first token of a document sees itself alone: out = v, log-sum-exp = scale · q·k.
    for (const std::size_t first : {0, 129, 130}) {
        for (std::size_t head = 0; head < 2; ++head) {
            double score = 0;
            for (std::size_t i = 0; i < 64; ++i) {
                score += static_cast<double>(to_compute(q[first * query_width + head * 64 + i])) * static_cast<double>(to_compute(kv[first * key_width + i])) / 8;
                CHECK(a.out[first * query_width + head * 64 + i].bits == kv[first * key_width + i].bits);
            }
            CHECK(static_cast<double>(a.lse[head * rows + first]) == doctest::Approx(score).epsilon(1e-4));
        }
    }
}

}  // namespace longspan
