// SPDX-License-Identifier: Apache-2.0
//
// QK-norm and rotary positions in one pass against the definition in double, over heads that do not come out even.
#include <cmath>
#include <string>
#include <vector>

#include <longspan/cuda/head_norm_rotary.cuh>

#include "support.cuh"

namespace head_norm_rotary_test {

namespace ls = longspan;
using ls::index;  // not POSIX's
using cuda_test::check_rounded_once, cuda_test::device_array, cuda_test::doubles, cuda_test::random_values, cuda_test::relative_error;
using cuda_test::same_bits;

namespace {

constexpr double epsilon = 1e-5;

/// The angles of a batch's tokens.
struct table {
    index rows, half;
    std::vector<float> c, s;
    device_array<float> cosines, sines;

    table(index rows_, index half_) : rows(rows_), half(half_), cosines(static_cast<std::size_t>(rows_ * half_)), sines(cosines.size()) {
        for (const float angle : random_values<float>(cosines.size(), 2, 3.0)) c.push_back(std::cos(angle)), s.push_back(std::sin(angle));
        cosines.put(c), sines.put(s);
    }
    [[nodiscard]] auto cos() const { return cosines.constants(rows, half); }
    [[nodiscard]] auto sin() const { return sines.constants(rows, half); }
};

/// Queries or keys, columns of a wider tensor, with what both passes should make of them.
template <class T, class W>
struct one_kind {
    index rows, heads, head, begin, apart;
    std::vector<T> x, dy;
    std::vector<double> y, dx, dw, rstd;
    device_array<W> w;
    device_array<float> rstd_d, dw_d;

    one_kind(const table& at, index heads_, index head_, index begin_, index apart_, unsigned seed)
        : rows(at.rows), heads(heads_), head(head_), begin(begin_), apart(apart_), x(random_values<T>(static_cast<std::size_t>(rows * apart_), seed)),
          dy(random_values<T>(static_cast<std::size_t>(rows * apart_), seed + 1)), y(static_cast<std::size_t>(rows * heads * head)), dx(y.size()),
          dw(static_cast<std::size_t>(head), 0.5), w(random_values<W>(static_cast<std::size_t>(head), seed + 2)),
          rstd_d(static_cast<std::size_t>(rows * (heads + 1))), dw_d(std::vector<float>(static_cast<std::size_t>(head), 0.5f)) {
        const auto wide = doubles(w.get());
        const auto n = static_cast<double>(head);
        const index half = head / 2;
        for (index t = 0; t < rows; ++t) {
            for (index h = 0; h < heads; ++h) {
                const auto in = [&](const std::vector<T>& of, index i) {
                    return static_cast<double>(ls::to_compute(of[static_cast<std::size_t>(t * apart + begin + h * head + i)]));
                };
                double square = 0, along = 0;
                for (index i = 0; i < head; ++i) square += in(x, i) * in(x, i) / n;
                const double k = 1 / std::sqrt(square + epsilon);
                rstd.push_back(k);
                std::vector<double> g(static_cast<std::size_t>(head));
                const auto at_y = static_cast<std::size_t>((t * heads + h) * head);
                for (index i = 0; i < half; ++i) {
                    const auto low = static_cast<std::size_t>(i), high = static_cast<std::size_t>(i + half);
                    const auto angle = static_cast<std::size_t>(t * half + i);
                    const double c = static_cast<double>(at.c[angle]), s = static_cast<double>(at.s[angle]);
                    const double a = in(x, i) * k * wide[low], b = in(x, i + half) * k * wide[high];
                    y[at_y + low] = a * c - b * s, y[at_y + high] = b * c + a * s;
                    g[low] = in(dy, i) * c + in(dy, i + half) * s, g[high] = in(dy, i + half) * c - in(dy, i) * s;
                }
                for (index i = 0; i < head; ++i) {
                    const auto j = static_cast<std::size_t>(i);
                    dw[j] += g[j] * in(x, i) * k;
                    along += g[j] * wide[j] * in(x, i) * k / n;
                }
                for (index i = 0; i < head; ++i) {
                    const auto j = static_cast<std::size_t>(i);
                    dx[at_y + j] = k * (g[j] * wide[j] - in(x, i) * k * along);
                }
            }
        }
    }
    /// This kind's columns of a tensor of all of them; the others are as they were.
    [[nodiscard]] std::vector<T> columns_of(const std::vector<T>& all) const {
        std::vector<T> mine;
        for (index t = 0; t < rows; ++t)
            for (index c = 0; c < heads * head; ++c) mine.push_back(all[static_cast<std::size_t>(t * apart + begin + c)]);
        return mine;
    }
    void check_statistics() const {
        std::vector<double> got;
        for (index t = 0; t < rows; ++t)
            for (index h = 0; h < heads; ++h) got.push_back(static_cast<double>(rstd_d.get()[static_cast<std::size_t>(t * (heads + 1) + h)]));
        CHECK(relative_error(got, rstd) <= 1e-6);
    }
};

template <class T, index Head, class W = T>
void like_the_definition(index rows, index query_heads, index key_heads) {
    INFO(rows, " tokens, ", query_heads, " + ", key_heads, " heads of ", Head);
    const index apart = (query_heads + 2 * key_heads + 1) * Head, turned = (query_heads + key_heads) * Head;
    const table angles(rows, Head / 2);
    one_kind<T, W> q(angles, query_heads, Head, 0, apart, 3), k(angles, key_heads, Head, query_heads * Head, apart, 13);
    // One tensor holds both, as a projection does.
    std::vector<T> x = q.x, dy = q.dy;
    for (index t = 0; t < rows; ++t)
        for (index c = query_heads * Head; c < turned; ++c) {
            const auto at = static_cast<std::size_t>(t * apart + c);
            x[at] = k.x[at], dy[at] = k.dy[at];
        }
    const cuda_test::own_stream stream;
    const device_array<T> x_d(x);
    device_array<T> y(static_cast<std::size_t>(rows * turned)), dx(dy);
    device_array<std::byte> workspace(static_cast<std::size_t>(ls::cuda::norm_workspace(Head)));
    const auto in = x_d.constants(rows, apart), d = dx.constants(rows, apart);
    const auto columns = [&](const one_kind<T, W>& of, auto view) { return view.column_range(of.begin, of.heads * Head); };
    const auto weight = [](one_kind<T, W>& of) -> const W* { return of.w.data(); };
    const auto forward = [&](one_kind<T, W>& of) {
        return ls::normed_heads{columns(of, in), weight(of), columns(of, y.view(rows, turned)), of.rstd_d.view(rows, of.heads, of.heads + 1)};
    };
    const auto backward = [&](one_kind<T, W>& of) {
        return ls::normed_heads_gradient{columns(of, d), columns(of, in), weight(of), of.rstd_d.constants(rows, of.heads, of.heads + 1),
                                         columns(of, dx.view(rows, apart)), of.dw_d.data()};
    };
    ls::cuda::head_norm_rotary<Head>(stream, forward(q), forward(k), epsilon, angles.cos(), angles.sin());
    std::vector<double> exact;
    for (index t = 0; t < rows; ++t)
        for (const auto* of : {&q, &k})
            exact.insert(exact.end(), of->y.begin() + t * of->heads * Head, of->y.begin() + (t + 1) * of->heads * Head);
    check_rounded_once(y.get(), exact, 1e-6);
    q.check_statistics(), k.check_statistics();
    // In place: dx lies on dy, values beside them stay.
    ls::cuda::head_norm_rotary_backward<Head>(stream, backward(q), backward(k), angles.cos(), angles.sin(), workspace.data());
    const auto got = dx.get();
    check_rounded_once(q.columns_of(got), q.dx, 1e-6);
    check_rounded_once(k.columns_of(got), k.dx, 1e-6);
    CHECK(relative_error(doubles(q.dw_d.get()), q.dw) <= 3e-6);
    CHECK(relative_error(doubles(k.dw_d.get()), k.dw) <= 3e-6);
    index touched = 0;
    for (index t = 0; t < rows; ++t)
        for (index c = turned; c < apart; ++c) {
            const auto at = static_cast<std::size_t>(t * apart + c);
            touched += ls::to_compute(got[at]) != ls::to_compute(dy[at]);
        }
    CHECK(touched == 0);
    // Again: the same bits.
    const auto first_q = q.dw_d.get(), first_k = k.dw_d.get();
    q.dw_d.put(std::vector<float>(Head, 0.5f)), k.dw_d.put(std::vector<float>(Head, 0.5f)), dx.put(dy);
    ls::cuda::head_norm_rotary_backward<Head>(stream, backward(q), backward(k), angles.cos(), angles.sin(), workspace.data());
    CHECK(same_bits(dx.get(), got));
    CHECK((same_bits(q.dw_d.get(), first_q) && same_bits(k.dw_d.get(), first_k)));
}

}  // namespace

TEST_CASE("cuda head_norm_rotary: both passes against double, heads of a projection's columns") {
    for (const index rows : {1, 5, 33}) {
        like_the_definition<ls::bf16, 64>(rows, 3, 1);
        like_the_definition<ls::bf16, 128>(rows, 8, 2);
        like_the_definition<float, 24>(rows, 5, 5);
        like_the_definition<ls::fp16, 24, float>(rows, 2, 1);  // packets that do not fill their lanes
    }
    like_the_definition<ls::bf16, 64>(3001, 7, 3);  // thread blocks walk more than one round
    like_the_definition<ls::bf16, 64>(2, 70, 1);    // more heads than a thread block takes
    like_the_definition<float, 512>(3, 2, 1);       // a lane has more than a pair of packets
}

TEST_CASE("cuda head_norm_rotary: no rows, and what does not fit") {
    const cuda_test::own_stream stream;
    device_array<ls::bf16> x(256), w(16);
    device_array<float> angles(64), rstd(8), dw(16);
    const auto said = [](auto&& f) -> std::string {
        try {
            f();
        } catch (const ls::bad_argument& e) {
            return e.what();
        }
        return "";
    };
    const ls::bf16* const weight = w.data();
    const auto heads = [&](index rows, index columns, index count) {
        return ls::normed_heads{x.constants(rows, columns), weight, x.view(rows, columns), rstd.view(rows, count)};
    };
    const auto forward = [&](index rows, index columns, index count, index half = 8) {
        const auto table = angles.constants(rows, half);
        ls::cuda::head_norm_rotary<16>(stream, heads(rows, columns, count), heads(rows, 16, 1), epsilon, table, table);
    };
    forward(0, 32, 2);
    CHECK(said([&] { forward(4, 24, 2); }) == "head_norm_rotary: expected whole heads of 16 columns, got 24 columns");
    CHECK(said([&] { forward(4, 32, 1); }).find("head_norm_rotary: expected rstd of [4, 2], got [4, 1]") == 0);
    CHECK(said([&] { forward(4, 32, 2, 4); }).find("head_norm_rotary: expected cosines of [4, 8], got [4, 4]") == 0);
    const auto back = [&](std::byte* workspace, float* dweight) {
        const ls::normed_heads_gradient of{x.constants(4, 32), x.constants(4, 32), weight, rstd.constants(4, 2), x.view(4, 32), dweight};
        ls::cuda::head_norm_rotary_backward<16>(stream, of, of, angles.constants(4, 8), angles.constants(4, 8), workspace);
    };
    CHECK(said([&] { back(nullptr, dw.data()); }).find("head_norm_rotary_backward: expected workspace at a multiple of 16 bytes") == 0);
    CHECK(said([&] { back(reinterpret_cast<std::byte*>(x.data()), nullptr); }).find("expected dweight at a multiple of 4 bytes") != std::string::npos);
}

}  // namespace head_norm_rotary_test
