// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/loss.cuh: the walk over windows and their parts.
#pragma once

#include <longspan/cuda/detail/loss_cluster.cuh>
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

/// Logits have as many columns as the vocabulary: their product's depth is never split, so it needs no scratch. They leave as
/// floats, which takes as long as the sums where rows are short. Of the library's kernels the ones with tiles of 176 x 128 do best
/// at both: 0.31 ms where its first answer takes 0.38 (one H200, [2944, 50304] of width 768), 1.28 where it takes 1.41 ([1024,
/// 131072] of width 4096).
template <class Operand, class X, class W>
void multiply_logits(stream_ref stream, cublas& blas, const matrix_view<X>& x, const matrix_view<W>& w, const matrix_view<float>& logits) {
    product p = linear_product<Operand, X, W, float>(x, w);
    p.workspace = 0;
    if (sizeof(X) == 2) p.tile = CUBLASLT_MATMUL_TILE_176x128;
    multiply(stream, blas, "linear_cross_entropy", p, w, x, constants(logits), logits, {}, nullptr);
}

/// dw += dzᵀ · x. A window is a short depth: what the kernel does between tiles, reading and writing dw, takes as long as the
/// sums. Of the library's kernels the ones with tiles of 128 x 160 do best at both in one: 1.77 ms where its first answer takes
/// 2.35 (one H200, dw [131072, 4096], 1024 tokens).
template <class Operand, class DZ, class X>
void add_table_gradient(stream_ref stream, cublas& blas, const char* op, const matrix_view<DZ>& dz, const matrix_view<X>& x,
                        const matrix_view<float>& dw, std::byte* workspace) {
    product p = weight_gradient_product<Operand, DZ>(x, dw, accumulate::yes);
    if (sizeof(DZ) == 2) p.tile = CUBLASLT_MATMUL_TILE_128x160;
    multiply(stream, blas, op, p, x, dz, constants(dw), dw, {}, workspace);
}

/// The kernel that reads rows once; false, and nothing runs, where a row fits no cluster or there are none.
template <index Vocabulary, class T, bool Keep>
bool softmax_in_registers(stream_ref stream, const char* op, const loss_rows& about, index rows, index lead, int* notes, const float* logits,
                          T* dz) {
    constexpr logit_split split = split_row(Vocabulary);
    if constexpr (split.ctas > 0) {
        const auto kernel = cross_entropy_rows_in_registers<Vocabulary, T, Keep>;
        if (split.ctas > 1 && !clusters_run(op, reinterpret_cast<const void*>(kernel))) return false;
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(split.coming())), op, split.coming());
        cudaLaunchAttribute cluster{};
        cluster.id = cudaLaunchAttributeClusterDimension;
        cluster.val.clusterDim.x = split.ctas;
        cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(static_cast<unsigned>((rows < split.clusters() ? rows : split.clusters()) * split.ctas));
        config.blockDim = dim3(split.threads);
        config.dynamicSmemBytes = static_cast<std::size_t>(split.coming());
        config.stream = stream;
        config.attrs = &cluster;
        config.numAttrs = split.ctas > 1 ? 1 : 0;
        const loss_claims claims{static_cast<int>(rows), static_cast<int>(lead), notes, notes + 1};
        check(cudaLaunchKernelEx(&config, kernel, about, claims, logits, dz), op);
        return true;
    } else {
        return false;
    }
}

/// Puts a part's logits through the softmax: sums for the losses and, with Keep, dz. `lead`: by how many rows of dz its place
/// lies ahead of the logits, where dz is the smaller.
template <index Vocabulary, class T, bool Keep>
void softmax_of_part(stream_ref stream, const char* op, loss_rows about, index rows, index lead, int* notes, const float* logits, T* dz) {
    if (softmax_in_registers<Vocabulary, T, Keep>(stream, op, about, rows, lead, notes, logits, dz)) return;
    for (index done = 0, until = 0; done < rows; done = until) {
        until = !Keep || sizeof(T) == sizeof(float) ? rows : loss_rows_until(lead, done, rows);
        loss_rows here = about;
        here.targets += done, here.softmax += done;
        if (here.token_weights != nullptr) here.token_weights += done;
        cross_entropy_rows<Vocabulary, T, Keep><<<static_cast<unsigned>(until - done), loss_threads(Vocabulary), 0, stream>>>(
            here, logits + done * loss_stride(Vocabulary), Keep ? dz + done * loss_stride(Vocabulary) : nullptr);
        check_launch(op);
    }
}

/// `gradients(first token, rows, dz, workspace)` is called when a window's dz is on its way, where Keep is set.
template <index Vocabulary, class Operand, bool Keep, class X, class W, class Gradients>
void cross_entropy_windows(stream_ref stream, cublas& blas, const char* op, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                           const cross_entropy_options& options, index window, cross_entropy_sums* sums, std::byte* workspace,
                           Gradients&& gradients) {
    using T = std::remove_const_t<X>;
    constexpr index stride = loss_stride(Vocabulary);
    constexpr bytes row_bytes = stride * bytes{sizeof(T)}, logits_bytes = stride * bytes{sizeof(float)};
    auto* const softmax = reinterpret_cast<float4*>(workspace);
    auto* const notes = reinterpret_cast<int*>(softmax + window);
    std::byte* const rows_at = workspace + loss_notes_bytes(window);
    const bytes room = loss_rows_bytes<T>(window, Vocabulary) / row_bytes * row_bytes;
    const float* const weights = options.token_weights;
    for (index begin = 0; begin < x.rows; begin += window) {
        const index rows = begin + window < x.rows ? window : x.rows - begin;
        check(cudaMemsetAsync(notes, 0, static_cast<std::size_t>(2 * window) * sizeof(int), stream), op);
        for (index part = 0, tokens = 0; part < rows; part += tokens) {
            tokens = loss_part<T>(window, Vocabulary, part, rows);
            const index token = begin + part;
            const bytes first = part * row_bytes, last = sizeof(T) == sizeof(float) ? first : room - tokens * logits_bytes;
            auto* const logits = reinterpret_cast<float*>(rows_at + last);
            multiply_logits<Operand>(stream, blas, x.row_range(token, tokens), w, matrix_view<float>{logits, tokens, Vocabulary, stride});
            const loss_rows about{targets + token, weights == nullptr ? nullptr : weights + token, options.scale,
                                  static_cast<float>(options.smoothing), softmax + part};
            softmax_of_part<Vocabulary, T, Keep>(stream, op, about, tokens, (last - first) / row_bytes, notes + 2 * part, logits,
                                                 reinterpret_cast<T*>(rows_at + first));
        }
        cross_entropy_totals<Vocabulary><<<1, 256, 0, stream>>>({targets + begin, weights == nullptr ? nullptr : weights + begin, softmax,
                                                                 options.smoothing, rows, options.first_token + begin,
                                                                 options.token_losses == nullptr ? nullptr : options.token_losses + begin,
                                                                 options.first_bad, sums});
        check_launch(op);
        gradients(begin, rows, matrix_view<const T>{reinterpret_cast<const T*>(rows_at), rows, Vocabulary, stride}, rows_at + window * row_bytes);
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
                                                              [](index, index, const auto&, std::byte*) {});
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
        stream, blas, op, x, w, targets, options, window, sums, workspace, [&](index begin, index rows, const auto& dz, std::byte* scratch) {
            linear_input_gradient<Operand>(stream, blas, dz, w, dx.row_range(begin, rows), scratch);
            detail::add_table_gradient<Operand>(stream, blas, op, dz, x.row_range(begin, rows), dw, scratch);
        });
}

}  // namespace longspan::cuda
