// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/loss.cuh: the walk over windows and their parts.
#pragma once

#include <longspan/cuda/detail/loss_kernels.cuh>
#include <longspan/cuda/loss.cuh>

namespace longspan::cuda {

namespace detail {

/// What every call checks before anything runs.
template <index Vocabulary, class X, class W>
void expect_cross_entropy(const char* op, const matrix_view<X>& x, const matrix_view<W>& w, const std::int32_t* targets,
                          const cross_entropy_options& options, index window, const cross_entropy_sums* sums, const std::byte* workspace) {
    static_assert(Vocabulary > 0, "a vocabulary has at least one word");
    expects(w.columns > 0 && x.rows >= 0, [&] {
        return std::string(op) + ": expected a width of at least 1 and no negative count of tokens, got " + std::to_string(w.columns) + " and " +
               std::to_string(x.rows);
    });
    expect_view(op, "w", w, Vocabulary, w.columns);
    expect_view(op, "x", x, x.rows, w.columns);
    expects(window > 0, [&] { return std::string(op) + ": expected a window of at least 1 token, got " + std::to_string(window); });
    expects(options.smoothing >= 0 && options.smoothing < 1,
            [&] { return std::string(op) + ": expected a label smoothing in [0, 1), got " + std::to_string(options.smoothing); });
    if (x.rows == 0) return;
    expect_pointer(op, "targets", targets, alignof(std::int32_t));
    expect_pointer(op, "sums", sums, alignof(cross_entropy_sums));
    expect_pointer(op, "a workspace", workspace, workspace_alignment);
}

/// `gradients(first token, rows, dz)` is called when a window's dz is on its way, where Keep is set.
template <index Vocabulary, class Operand, bool Keep, class X, class W, class Gradients>
void cross_entropy_windows(stream_ref stream, cublas& blas, const char* op, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                           const cross_entropy_options& options, index window, cross_entropy_sums* sums, std::byte* workspace,
                           Gradients&& gradients) {
    using T = std::remove_const_t<X>;
    constexpr index stride = loss_stride(Vocabulary);
    window = window < x.rows ? window : x.rows;
    auto* const losses = reinterpret_cast<double*>(workspace + gemm_workspace);
    auto* const dz = reinterpret_cast<T*>(workspace + gemm_workspace + round_up(window * bytes{sizeof(double)}, workspace_alignment));
    auto* const logits = reinterpret_cast<float*>(dz + window * stride);
    const index part = loss_part(window);
    for (index begin = 0; begin < x.rows; begin += window) {
        const index rows = begin + window < x.rows ? window : x.rows - begin;
        for (index r = 0; r < rows; r += part) {
            const index here = r + part < rows ? part : rows - r;
            const index token = begin + r;
            linear<Operand>(stream, blas, x.row_range(token, here), w, nullptr, matrix_view<float>{logits, here, Vocabulary, stride}, workspace);
            const loss_rows about{targets + token,
                                  options.token_weights == nullptr ? nullptr : options.token_weights + token,
                                  options.scale,
                                  losses + r,
                                  options.token_losses == nullptr ? nullptr : options.token_losses + token,
                                  options.first_bad,
                                  token,
                                  options.smoothing};
            cross_entropy_rows<Vocabulary, T, Keep>
                <<<static_cast<unsigned>(here), loss_threads(Vocabulary), 0, stream>>>(about, logits, Keep ? dz + r * stride : nullptr);
            check_launch(op);
        }
        cross_entropy_totals<Vocabulary><<<1, 256, 0, stream>>>(
            targets + begin, options.token_weights == nullptr ? nullptr : options.token_weights + begin, losses, rows, sums);
        check_launch(op);
        gradients(begin, rows, matrix_view<const T>{dz, rows, Vocabulary, stride});
    }
}

}  // namespace detail

template <index Vocabulary, class Operand, product_storage X, product_storage W>
    requires product_operand<Operand, X>
void linear_cross_entropy(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                          const cross_entropy_options& options, index window, cross_entropy_sums* sums, std::byte* workspace) {
    constexpr const char* op = "linear_cross_entropy";
    detail::expect_cross_entropy<Vocabulary>(op, x, w, targets, options, window, sums, workspace);
    if (x.rows == 0) return;
    detail::cross_entropy_windows<Vocabulary, Operand, false>(stream, blas, op, x, w, targets, options, window, sums, workspace,
                                                              [](index, index, const auto&) {});
}

template <index Vocabulary, class Operand, product_storage X, product_storage W, product_storage DX>
    requires product_operand<Operand, X>
void linear_cross_entropy_gradients(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                    const cross_entropy_options& options, index window, matrix_view<DX> dx, matrix_view<float> dw,
                                    cross_entropy_sums* sums, std::byte* workspace) {
    constexpr const char* op = "linear_cross_entropy_gradients";
    detail::expect_cross_entropy<Vocabulary>(op, x, w, targets, options, window, sums, workspace);
    expect_view(op, "dx", dx, x.rows, x.columns);
    expect_view(op, "dw", dw, Vocabulary, x.columns);
    if (x.rows == 0) return;
    detail::cross_entropy_windows<Vocabulary, Operand, true>(
        stream, blas, op, x, w, targets, options, window, sums, workspace, [&](index begin, index rows, const auto& dz) {
            linear_input_gradient<Operand>(stream, blas, dz, w, dx.row_range(begin, rows), workspace);
            linear_weight_gradient<Operand>(stream, blas, dz, x.row_range(begin, rows), dw, workspace, accumulate::yes);
        });
}

}  // namespace longspan::cuda
