// SPDX-License-Identifier: Apache-2.0
//
// Dense layers: y = x·wᵀ + b and its three gradients. Weights are [out, in], as PyTorch keeps them. Two thirds of a step's time
// is spent here.
//
// Operands may be stored in any format; products are formed and summed in float (in double for doubles), and a result is
// rounded to its format once. `accumulate::yes` adds to what the result holds, before that one rounding.
//
// Deterministic: each element is one sum in a fixed order of the depth (for a weight's gradient: of the tokens), whatever the
// number of threads, the number of tokens beside it, or its place. Allocates nothing but one scratch per thread, at that
// thread's first product (560 KiB in floats, 528 KiB more for two-byte results: detail/product.hpp).
//
// Legend: t tokens, in and out widths. Rows of a view may be any stride apart; a result must not overlap an operand.
// Throws bad_argument where shapes do not fit.
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/detail/product.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/host/parallel.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::host {

/// Whether a result replaces what its memory holds or is added to it.
enum class accumulate : bool { no, yes };

/// A format that stored values may be read in: const or not.
template <class T>
concept storage = storage_format<std::remove_const_t<T>>;
/// The same of a residual stream.
template <class T>
concept stream = stream_format<std::remove_const_t<T>>;

/// What a product rounds its operands to as it reads them; void: nothing, they are taken as stored.
template <class T>
concept operand_rounding = std::is_void_v<T> || operand_format<T>;

/// y[t, out] (= | +=) x[t, in] · w[out, in]ᵀ + bias[out]; a null bias is none. Operand = tf32_format rounds x and w to tf32.
template <operand_rounding Operand = void, storage X, storage W, storage_format Y>
void linear(matrix_view<X> x, matrix_view<W> w, const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<Y> y,
            accumulate add = accumulate::no);

/// dx[t, in] (= | +=) dy[t, out] · w[out, in].
template <operand_rounding Operand = void, storage DY, storage W, storage_format DX>
void linear_input_gradient(matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, accumulate add = accumulate::no);

/// dw[out, in] (= | +=) dy[t, out]ᵀ · x[t, in]: the sum over all tokens, in order.
template <operand_rounding Operand = void, storage DY, storage X, storage_format DW>
void linear_weight_gradient(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, accumulate add = accumulate::no);

/// db[out] (= | +=) the sum of dy[t, out] over all tokens: by blocks of 128 tokens, then over the blocks in order.
template <storage DY, storage_format DB>
void linear_bias_gradient(matrix_view<DY> dy, DB* db, accumulate add = accumulate::no);

namespace detail {

template <class A, class B>
void expect_same_extent(const char* op, const char* of_a, A a, const char* of_b, B b) {
    expects(a == b, [&] {
        return std::string(op) + ": expected " + of_a + " and " + of_b + " to be equal, got " + std::to_string(a) + " and " +
               std::to_string(b);
    });
}

template <class T>
void expect_view(const char* op, const char* name, const matrix_view<T>& view) {
    expects(view.rows >= 0 && view.columns >= 0 && (view.stride >= view.columns || view.rows <= 1), [&] {
        return std::string(op) + ": expected " + name + " to have a stride of at least its columns, got [" +
               std::to_string(view.rows) + ", " + std::to_string(view.columns) + "] with stride " + std::to_string(view.stride);
    });
    expects(view.data != nullptr || view.rows == 0 || view.columns == 0,
            [&] { return std::string(op) + ": expected " + name + " to point at its values, got a null pointer"; });
}

template <class Operand, depth_is Depth, class T>
[[nodiscard]] operand<std::remove_const_t<T>, Operand, Depth> operand_of(const matrix_view<T>& view) {
    return {view.data, view.stride};
}

}  // namespace detail

template <operand_rounding Operand, storage X, storage W, storage_format Y>
void linear(matrix_view<X> x, matrix_view<W> w, const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<Y> y,
            accumulate add) {
    detail::expect_same_extent("linear", "x.columns", x.columns, "w.columns", w.columns);
    detail::expect_same_extent("linear", "y.rows", y.rows, "x.rows", x.rows);
    detail::expect_same_extent("linear", "y.columns", y.columns, "w.rows", w.rows);
    detail::expect_view("linear", "x", x);
    detail::expect_view("linear", "w", w);
    detail::expect_view("linear", "y", y);
    detail::product(detail::operand_of<Operand, detail::depth_is::contiguous>(x),
                    detail::operand_of<Operand, detail::depth_is::contiguous>(w), x.columns, y, bias, add == accumulate::yes);
}

template <operand_rounding Operand, storage DY, storage W, storage_format DX>
void linear_input_gradient(matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, accumulate add) {
    detail::expect_same_extent("linear_input_gradient", "dy.columns", dy.columns, "w.rows", w.rows);
    detail::expect_same_extent("linear_input_gradient", "dx.rows", dx.rows, "dy.rows", dy.rows);
    detail::expect_same_extent("linear_input_gradient", "dx.columns", dx.columns, "w.columns", w.columns);
    detail::expect_view("linear_input_gradient", "dy", dy);
    detail::expect_view("linear_input_gradient", "w", w);
    detail::expect_view("linear_input_gradient", "dx", dx);
    constexpr const compute_t<DX>* no_bias = nullptr;
    detail::product(detail::operand_of<Operand, detail::depth_is::contiguous>(dy),
                    detail::operand_of<Operand, detail::depth_is::strided>(w), dy.columns, dx, no_bias, add == accumulate::yes);
}

template <operand_rounding Operand, storage DY, storage X, storage_format DW>
void linear_weight_gradient(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, accumulate add) {
    detail::expect_same_extent("linear_weight_gradient", "dy.rows", dy.rows, "x.rows", x.rows);
    detail::expect_same_extent("linear_weight_gradient", "dw.rows", dw.rows, "dy.columns", dy.columns);
    detail::expect_same_extent("linear_weight_gradient", "dw.columns", dw.columns, "x.columns", x.columns);
    detail::expect_view("linear_weight_gradient", "dy", dy);
    detail::expect_view("linear_weight_gradient", "x", x);
    detail::expect_view("linear_weight_gradient", "dw", dw);
    constexpr const compute_t<DW>* no_bias = nullptr;
    detail::product(detail::operand_of<Operand, detail::depth_is::strided>(dy),
                    detail::operand_of<Operand, detail::depth_is::strided>(x), dy.rows, dw, no_bias, add == accumulate::yes);
}

template <storage DY, storage_format DB>
void linear_bias_gradient(matrix_view<DY> dy, DB* db, accumulate add) {
    using T = compute_t<DY>;
    static_assert(std::is_same_v<T, compute_t<DB>>, "a bias gradient is computed in one type: all fp64, or none");
    detail::expect_view("linear_bias_gradient", "dy", dy);
    constexpr index block = 128;  // short sums first: the error grows with block + tokens / block
    parallel_for(ceil_div(dy.columns, pack<T>::lanes), [&](index task) {
        const index column = task * pack<T>::lanes;
        const index count = dy.columns - column < pack<T>::lanes ? dy.columns - column : pack<T>::lanes;
        pack<T> total = pack<T>::zero();
        for (index t = 0; t < dy.rows;) {
            const index end = t + block < dy.rows ? t + block : dy.rows;
            pack<T> sum = pack<T>::zero();
            for (; t < end; ++t) {
                const auto* const row = dy.row(t) + column;
                sum += count == pack<T>::lanes ? pack<T>::load(row) : pack<T>::load(row, count);
            }
            total += sum;
        }
        if (add == accumulate::yes) total += pack<T>::load(db + column, count);
        total.store(db + column, count);
    });
}

}  // namespace longspan::host
