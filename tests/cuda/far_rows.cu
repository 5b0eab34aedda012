// SPDX-License-Identifier: Apache-2.0
//
// Offsets beyond 2^31 elements, for ops whose own tests stop before or try one direction alone: the last rows of a tall matrix give
// what the same rows give in a small one.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <longspan/core/bad_ids.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/cuda/activation.cuh>
#include <longspan/cuda/dropout.cuh>
#include <longspan/cuda/fixed_stream.cuh>
#include <longspan/cuda/gemm.cuh>
#include <longspan/cuda/head_norm_rotary.cuh>
#include <longspan/cuda/loss.cuh>
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/residual.cuh>
#include <longspan/cuda/rotary.cuh>

#include "support.cuh"

namespace longspan {
namespace {

using cuda_test::device_array;
using cuda_test::doubles;
using cuda_test::random_values;
using cuda_test::relative_error;
using cuda_test::same_bits;

constexpr index width = 4096, few = 3, tall = (index{1} << 31) / width + few, statistics = 64;
constexpr double epsilon = 1e-5;

/// Whether the device has room for a tall matrix four times, and some more.
bool roomy() {
    std::size_t free = 0, total = 0;
    cuda::check(cudaMemGetInfo(&free, &total), "test");
    if (free >= std::size_t{20} << 30) return true;
    MESSAGE("skipped: less than 20 GiB of free device memory");
    return false;
}

/// Inputs of `rows` rows, all of them zero but the last few, and room for results.
struct matrices {
    index rows;
    cuda_test::own_stream stream;
    cuda::cublas blas;
    device_array<bf16> a, b, y, z, w;
    device_array<float> s1, s2, g;
    device_array<piece> pieces;
    device_array<std::byte> workspace;

    explicit matrices(index rows_)
        : rows(rows_), a(size(width)), b(size(width)), y(size(width)), z(size(width)), w(random_values<bf16>(width * 16, 3, 0.1)), s1(size(statistics)),
          s2(size(statistics)), g(width * 256), pieces(std::vector<piece>{{5, 0, 0}, {6, 3, rows - few}}),
          workspace(static_cast<std::size_t>(std::max(cuda::gemm_workspace, std::max(cuda::norm_workspace(width), cuda::loss_workspace<bf16>(4096, 256))))) {
        a.zero(), b.zero(), s1.zero(), s2.zero(), g.zero();
        put(a, 1), put(b, 2);
    }
    [[nodiscard]] std::size_t size(index columns) const { return static_cast<std::size_t>(rows * columns); }
    void put(device_array<bf16>& into, unsigned seed) const {
        const auto values = random_values<bf16>(static_cast<std::size_t>(few * width), seed);
        cuda::check(cudaMemcpy(into.data() + (rows - few) * width, values.data(), values.size() * sizeof(bf16), cudaMemcpyHostToDevice), "test");
        cuda::check(cudaDeviceSynchronize(), "test");
    }
    template <class T>
    [[nodiscard]] std::vector<T> tail(const device_array<T>& from, index columns) const {
        cuda::check(cudaDeviceSynchronize(), "test");
        std::vector<T> values(static_cast<std::size_t>(few * columns));
        cuda::check(cudaMemcpy(values.data(), from.data() + (rows - few) * columns, values.size() * sizeof(T), cudaMemcpyDeviceToHost), "test");
        return values;
    }
    [[nodiscard]] auto in_a(index columns = width) const { return a.constants(rows, columns, width); }
    [[nodiscard]] auto in_b(index columns = width) const { return b.constants(rows, columns, width); }
    [[nodiscard]] auto out_y(index columns = width) { return y.view(rows, columns, width); }
    [[nodiscard]] auto out_z(index columns = width) { return z.view(rows, columns, width); }
    [[nodiscard]] piece_table table() const { return {{pieces.data(), 2}, rows}; }
};

/// Gives an op both; its results y (and z, `kept` statistics a row, and sums) agree, to the bit unless `off` says by how much.
template <class Op>
void agrees(Op&& op, double off = 0, index kept = statistics) {
    if (!roomy()) return;
    matrices far(tall), near(few);
    op(far), op(near);
    const auto y = far.tail(far.y, width), expected = near.tail(near.y, width);
    for (index r = 0; r < few; ++r) CHECK(std::isfinite(to_compute(expected[static_cast<std::size_t>(r * width)])));
    if (off == 0) {
        CHECK(same_bits(y, expected));
        CHECK(same_bits(far.tail(far.z, width), near.tail(near.z, width)));
    } else {
        CHECK(relative_error(doubles(y), doubles(expected)) <= off);
    }
    CHECK(same_bits(far.tail(far.s1, kept), near.tail(near.s1, kept)));
    CHECK(same_bits(far.tail(far.s2, kept), near.tail(near.s2, kept)));
    CHECK(relative_error(doubles(far.g.get()), doubles(near.g.get())) <= 1e-5 + off);
}

const random_site site{.seed = 7, .step = 3, .layer = 2, .site = 1};

}  // namespace

TEST_CASE("cuda rows beyond 2^31 elements: norms") {
    agrees([](matrices& m) {
        cuda::layer_norm<width>(m.stream, m.in_a(), m.w.data(), m.w.data() + width, epsilon, m.out_z(), m.s1.data(), m.s2.data());
        cuda::layer_norm_backward<width>(m.stream, m.in_b(), m.in_a(), m.w.data(), m.s1.data(), m.s2.data(), m.out_y(), m.g.data(), m.g.data() + width,
                                         m.workspace.data());
    }, 0, 1);
    agrees([](matrices& m) {
        cuda::add_rms_norm<width>(m.stream, m.in_a(), m.in_b(), m.out_z(), m.w.data(), epsilon, m.out_y(), m.s1.data());
        cuda::rms_norm_backward<width>(m.stream, m.in_b(), matrix_view<const bf16>(m.out_z()), m.w.data(), m.s1.data(), m.out_y(), m.g.data(), m.workspace.data());
    }, 0, 1);
    agrees([](matrices& m) {
        cuda::head_norm<64>(m.stream, m.in_a(), m.w.data(), epsilon, m.out_z(), m.s1.data());
        cuda::head_norm_backward<64>(m.stream, m.in_b(), m.in_a(), m.w.data(), m.s1.data(), m.out_y(), m.g.data(), m.workspace.data());
    });
}

TEST_CASE("cuda rows beyond 2^31 elements: activations") {
    constexpr index hidden = width / 2;
    agrees([](matrices& m) { cuda::silu_gated<hidden>(m.stream, m.in_a(), m.out_y(hidden)); });
    agrees([](matrices& m) { cuda::silu_gated_backward<hidden>(m.stream, m.in_b(hidden), m.in_a(), m.out_y(), m.out_z(hidden)); });
    agrees([](matrices& m) { cuda::gelu_backward<width>(m.stream, m.in_b(), m.in_a(), m.out_y(), m.out_z()); });
    agrees([](matrices& m) {
        cuda::gelu_tanh<width>(m.stream, m.in_a(), m.out_z());
        cuda::gelu_tanh_backward<width>(m.stream, m.in_b(), m.in_a(), m.out_y());
    });
}

TEST_CASE("cuda rows beyond 2^31 elements: rotary") {
    for (const auto turn : {cuda::direction::forward, cuda::direction::backward}) {
        agrees([&](matrices& m) {
            const auto cosines = m.s1.view(m.rows, statistics), sines = m.s2.view(m.rows, statistics);
            cuda::rotary_table<2 * statistics>(m.stream, m.table(), 10000.0, cosines, sines);
            cuda::rotary<2 * statistics>(m.stream, m.in_a(), cosines, sines, m.out_y(), turn);
        });
    }
}

TEST_CASE("cuda rows beyond 2^31 elements: norms of heads that are turned") {
    constexpr index head = 64, queries = 48 * head, keys = width - queries;
    agrees([](matrices& m) {
        const auto table = m.s1.view(m.rows, statistics), rstd = m.s2.view(m.rows, statistics);
        const auto cosines = table.column_range(0, head / 2), sines = table.column_range(head / 2, head / 2);
        cuda::rotary_table<head>(m.stream, m.table(), 10000.0, cosines, sines);
        const bf16* const w = m.w.data();
        const auto heads = [&](index begin, index columns) {
            return normed_heads{m.in_a().column_range(begin, columns), w, m.out_z().column_range(begin, columns),
                                rstd.column_range(begin / head, columns / head)};
        };
        const auto gradients = [&](index begin, index columns) {
            return normed_heads_gradient{m.in_b().column_range(begin, columns), m.in_a().column_range(begin, columns), w,
                                         rstd.column_range(begin / head, columns / head), m.out_y().column_range(begin, columns),
                                         m.g.data() + begin};
        };
        cuda::head_norm_rotary<head>(m.stream, heads(0, queries), heads(queries, keys), epsilon, cosines, sines);
        cuda::head_norm_rotary_backward<head>(m.stream, gradients(0, queries), gradients(queries, keys), cosines, sines, m.workspace.data());
    });
}

TEST_CASE("cuda rows beyond 2^31 elements: a rotary table") {
    if (!roomy()) return;
    constexpr index half = 128, tokens = (index{1} << 31) / half + few;
    const auto made = [](index rows) {
        const cuda_test::own_stream stream;
        const device_array<piece> pieces(std::vector<piece>{{5, 0, 0}, {6, 3'999'990, rows - few}});
        device_array<float> cosines(static_cast<std::size_t>(rows * half)), sines(static_cast<std::size_t>(rows * half));
        cuda::rotary_table<2 * half>(stream, piece_table{{pieces.data(), 2}, rows}, 10000.0, cosines.view(rows, half), sines.view(rows, half));
        stream.wait();
        std::vector<float> tail(2 * few * half);
        cuda::check(cudaMemcpy(tail.data(), cosines.data() + (rows - few) * half, few * half * sizeof(float), cudaMemcpyDeviceToHost), "test");
        cuda::check(cudaMemcpy(tail.data() + few * half, sines.data() + (rows - few) * half, few * half * sizeof(float), cudaMemcpyDeviceToHost), "test");
        return tail;
    };
    const auto near = made(few);
    for (const float angle : near) CHECK(std::abs(angle) <= 1);
    CHECK(same_bits(made(tokens), near));
}

TEST_CASE("cuda rows beyond 2^31 elements: branches and dropout") {
    const branch_drop drop{dropout_rate(0.25), {}};
    agrees([&](matrices& m) { cuda::residual_backward<width>(m.stream, m.in_a(), m.out_y(), m.table(), drop, site); });
    agrees([&](matrices& m) { cuda::dropout<width>(m.stream, m.in_a(), m.out_y(), m.table(), dropout_rate(0.25), site); });
}

TEST_CASE("cuda rows beyond 2^31 elements: streams in fixed point") {
    if (!roomy()) return;
    struct result {
        std::vector<fixed32> begun, added, taken, sums, back;
        index noted;
    };
    // In place, and a branch makes room for the second stream: 16 GiB at a time.
    const auto made = [](index rows) {
        const branch_drop drop{dropout_rate(0.25), {}};
        const std::size_t size = static_cast<std::size_t>(rows * width);
        const cuda_test::own_stream stream;
        const device_array<piece> pieces(std::vector<piece>{{5, 0, 0}, {6, 3, rows - few}});
        const piece_table table{{pieces.data(), 2}, rows};
        device_array<index> note(std::vector<index>{bad_ids::none});
        device_array<fixed32> x(size);
        const auto tail = [&] {
            stream.wait();
            std::vector<fixed32> values(static_cast<std::size_t>(few * width));
            cuda::check(cudaMemcpy(values.data(), x.data() + (rows - few) * width, values.size() * sizeof(fixed32), cudaMemcpyDeviceToHost), "test");
            return values;
        };
        result of;
        {
            device_array<bf16> branch(size);
            branch.zero();
            auto values = random_values<bf16>(static_cast<std::size_t>(few * width), 8);
            values[width + 7] = bf16(1e9f);  // of the second of the few rows: leaves the range, is noted
            cuda::check(cudaMemcpy(branch.data() + (rows - few) * width, values.data(), values.size() * sizeof(bf16), cudaMemcpyHostToDevice), "test");
            const auto b = branch.constants(rows, width);
            cuda::start_stream<width>(stream, b, x.view(rows, width), note.data());
            of.begun = tail();
            cuda::add_branch<width>(stream, x.constants(rows, width), b, x.view(rows, width), table, drop, site, nullptr);
            of.added = tail();
            cuda::take_branch<width>(stream, x.constants(rows, width), b, x.view(rows, width), table, drop, site, nullptr);
            of.taken = tail();
        }
        device_array<fixed32> other(size);
        cuda::check(cudaMemcpyAsync(other.data(), x.data(), size * sizeof(fixed32), cudaMemcpyDeviceToDevice, cuda::stream_ref(stream)), "test");
        cuda::add_stream<width>(stream, x.view(rows, width), other.constants(rows, width));
        of.sums = tail();
        cuda::take_stream<width>(stream, x.view(rows, width), other.constants(rows, width));
        of.back = tail();
        of.noted = note.get()[0] - (rows - few);
        return of;
    };
    const result far = made(tall), near = made(few);
    CHECK(near.noted == 1);
    CHECK(far.noted == 1);
    CHECK(!same_bits(near.begun, near.added));
    CHECK(!same_bits(near.begun, near.sums));
    CHECK(same_bits(near.begun, near.taken));
    CHECK(same_bits(near.begun, near.back));
    CHECK(same_bits(far.begun, near.begun));
    CHECK(same_bits(far.added, near.added));
    CHECK(same_bits(far.taken, near.taken));
    CHECK(same_bits(far.sums, near.sums));
    CHECK(same_bits(far.back, near.back));
}

TEST_CASE("cuda rows beyond 2^31 elements: products") {
    constexpr double close = 1e-2;  // another shape may take another kernel, which sums in another order: a bit of bf16
    agrees([](matrices& m) { cuda::linear_input_gradient(m.stream, m.blas, m.in_b(16), m.w.view(16, width), m.out_y(), m.workspace.data()); }, close);
    agrees([](matrices& m) {
        cuda::linear_residual(m.stream, m.blas, m.in_b(16), m.w.view(width, 16), nullptr, m.in_a(), m.out_y(), m.workspace.data());
    }, close);
    agrees([](matrices& m) {
        cuda::linear_gelu_tanh(m.stream, m.blas, m.in_b(16), m.w.view(width, 16), m.w.data(), m.out_z(), m.out_y(), m.workspace.data());
    }, close);
    agrees([](matrices& m) {
        cuda::linear_input_gradient_gelu_tanh(m.stream, m.blas, m.in_b(16), m.w.view(16, width), m.in_a(), m.out_y(), m.workspace.data());
    }, close);
}

TEST_CASE("cuda rows beyond 2^31 elements: the loss") {
    const auto head = random_values<bf16>(256 * width, 4, 0.05);
    agrees([&](matrices& m) {
        std::vector<std::int32_t> goals(static_cast<std::size_t>(m.rows), -1);
        for (index i = 0; i < few; ++i) goals[static_cast<std::size_t>(m.rows - few + i)] = static_cast<std::int32_t>(17 * i + 5);
        const device_array<std::int32_t> targets(goals);
        device_array<bf16> w(head);
        device_array<cross_entropy_sums> sums(1);
        sums.zero();
        cuda::linear_cross_entropy_gradients<256>(m.stream, m.blas, m.in_a(), w.view(256, width), targets.data(), {}, 4096, m.out_y(), m.g.view(256, width),
                                                  sums.data(), m.workspace.data());
        m.stream.wait();
        CHECK(sums.get()[0].loss > 0);
    }, 1e-2);
}

}  // namespace longspan
