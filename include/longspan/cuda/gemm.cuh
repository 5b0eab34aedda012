// SPDX-License-Identifier: Apache-2.0
//
// Dense layers on the device, through cuBLASLt: y = x · wᵀ + b, its gradients, and what fuses with them. The twin of
// host/gemm.hpp; two thirds of a step's time are spent here.
//
// Operands are bf16, fp16 or float (both of a product in one format); sums are in float; a result is rounded once. Operand =
// tf32_format reads floats at 10 mantissa bits. Weights are [out, in].
//
// Which kernel runs is cuBLASLt's own first answer to its heuristic for the product's shape, types, strides and alignment
// (256 bytes in an arena), with at most gemm_workspace bytes of scratch; where the loss names a tile, the first answer with it: never
// timing. It is asked once per product and kept by `cublas`, which lists its choices for a snapshot. Kernels that add partial sums
// out of order are not asked for: the same choices give the same bits.
//
// Legend: t tokens, in and out widths. Rows of a view may be any stride apart and t is any count; speed wants strides of whole
// 16 bytes. Every op only puts work on the stream. `workspace`: gemm_workspace bytes at a multiple of 256, free again when the
// stream has passed the op. A result must not overlap an operand. Throws bad_argument where shapes do not fit, device_error
// with the library's reason where it has no kernel.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/detail/product.cuh>
#include <longspan/cuda/gemm_sizes.hpp>
#include <longspan/cuda/stream.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda {

/// The library's handle on the current device, and the kernel chosen for each product so far. Not for two threads at once.
/// A product's first use asks the heuristic (host work of about 100 µs) and may load a kernel, so each runs once before a
/// capture; later uses allocate nothing.
class cublas {
public:
    /// Allocates 4 bytes of the device beside what the library keeps for itself.
    cublas();
    ~cublas();
    cublas(const cublas&) = delete;
    cublas& operator=(const cublas&) = delete;

    /// The device's name and the library's version: where choices hold.
    [[nodiscard]] const std::string& machine() const { return machine_; }

    /// machine(), then a line of text per product: its shape and the kernel chosen.
    [[nodiscard]] std::vector<std::string> choices() const;

    /// Takes choices() of an earlier run, for products not used yet. False, and nothing is taken, when they come from another
    /// device or version: bits may then differ from that run's. Throws bad_argument for lines that are no choices.
    [[nodiscard]] bool reuse(const std::vector<std::string>& lines);

    /// Puts a product on the stream by its plan, made on first use.
    void run(stream_ref stream, const char* op, const detail::product& shape, detail::product_operands at, std::byte* workspace);

private:
    cublasLtHandle_t handle_ = nullptr;
    float* one_ = nullptr;  // device memory that holds 1
    std::string machine_;
    std::vector<detail::product_plan> plans_;
    std::vector<std::pair<detail::product, cublasLtMatmulAlgo_t>> recorded_;
};

/// A format that the device's products read: const or not.
template <class T>
concept product_storage = std::same_as<std::remove_const_t<T>, float> || std::same_as<std::remove_const_t<T>, bf16> ||
                          std::same_as<std::remove_const_t<T>, fp16>;

/// What operands are rounded to as they are read: void for as stored, tf32_format for floats at 10 bits, or their own format.
template <class Operand, class T>
concept product_operand = std::is_void_v<Operand> || std::same_as<Operand, std::remove_const_t<T>> ||
                          (std::same_as<Operand, tf32_format> && std::same_as<std::remove_const_t<T>, float>);

/// y[t, out] (= | +=) x[t, in] · w[out, in]ᵀ + bias[out]; a null bias is none. Y is the operands' format or float;
/// in floats, products of two-byte operands take no bias.
template <class Operand = void, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::type_identity_t<std::remove_const_t<W>>* bias,
            matrix_view<Y> y, std::byte* workspace, accumulate add = accumulate::no);

/// y[t, out] = residual[t, out] + x · wᵀ + bias, rounded once; y may be the residual itself.
template <class Operand = void, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear_residual(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w,
                     const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<const Y> residual, matrix_view<Y> y,
                     std::byte* workspace);

/// pre[t, out] = x · wᵀ + bias and y[t, out] = gelu(pre), its tanh form, of pre before its rounding. One kernel.
template <class Operand = void, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear_gelu_tanh(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w,
                      const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<Y> pre, matrix_view<Y> y, std::byte* workspace);

/// dx[t, in] (= | +=) dy[t, out] · w[out, in].
template <class Operand = void, product_storage DY, product_storage W, product_storage DX>
    requires product_operand<Operand, DY>
void linear_input_gradient(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, std::byte* workspace,
                           accumulate add = accumulate::no);

/// d_pre[t, in] = (dy[t, out] · w[out, in]) ⊙ gelu'(pre[t, in]), the tanh form's derivative. One kernel.
template <class Operand = void, product_storage DY, product_storage W, product_storage DX>
    requires product_operand<Operand, DY>
void linear_input_gradient_gelu_tanh(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<W> w, matrix_view<const DX> pre,
                                     matrix_view<DX> d_pre, std::byte* workspace);

/// dw[out, in] (= | +=) dy[t, out]ᵀ · x[t, in].
template <class Operand = void, product_storage DY, product_storage X, product_storage DW>
    requires product_operand<Operand, DY>
void linear_weight_gradient(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, std::byte* workspace,
                            accumulate add = accumulate::no);

/// db[out] (= | +=) the sum of dy[t, out] over all tokens, in bias_gradient_parts parts, then over those in order. `workspace`:
/// bias_gradient_workspace(out) bytes.
template <product_storage DY>
void linear_bias_gradient(stream_ref stream, matrix_view<DY> dy, float* db, std::byte* workspace, accumulate add = accumulate::no);

/// Both gradients of a layer's parameters. With `InEpilogue` db comes out of the product for dw, which reads dy anyway, in an order that
/// is the chosen kernel's; else it is linear_bias_gradient's.
template <class Operand = void, bool InEpilogue = bias_gradient_in_epilogue, product_storage DY, product_storage X, product_storage DW>
    requires product_operand<Operand, DY>
void linear_parameter_gradients(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, float* db,
                                std::byte* workspace, accumulate add = accumulate::no);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/gemm.cuh>
#include <longspan/cuda/detail/bias_gradient.cuh>
