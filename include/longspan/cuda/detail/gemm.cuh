// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/gemm.cuh, the products.
#pragma once

#include <algorithm>
#include <iterator>
#include <utility>

#include <longspan/cuda/gemm.cuh>

namespace longspan::cuda {

inline cublas::cublas() {
    int device = 0;
    cudaDeviceProp properties;
    check(cudaGetDevice(&device), "opening cuBLASLt");
    check(cudaGetDeviceProperties(&properties, device), "opening cuBLASLt");
    detail::check_blas(cublasLtCreate(&handle_), "opening cuBLASLt");
    const float one = 1;
    cudaError_t code = cudaMalloc(reinterpret_cast<void**>(&one_), sizeof one);
    if (code == cudaSuccess) code = cudaMemcpy(one_, &one, sizeof one, cudaMemcpyHostToDevice);
    if (code != cudaSuccess) {
        cudaFree(one_);
        cublasLtDestroy(handle_);
        check(code, "opening cuBLASLt", sizeof one);
    }
    machine_ = std::string(properties.name) + ", cuBLASLt " + std::to_string(cublasLtGetVersion());
    plans_.reserve(256);  // more than a step has; past it a first use grows the list
}

inline cublas::~cublas() {
    cudaFree(one_);
    cublasLtDestroy(handle_);
}

inline std::vector<std::string> cublas::choices() const {
    std::vector<std::string> lines{machine_};
    const auto add = [&](const detail::product& shape, const cublasLtMatmulAlgo_t& algorithm) {
        std::string line = shape.text() + " kernel";
        for (const std::uint64_t word : algorithm.data) line += " " + std::to_string(word);
        lines.push_back(line);
    };
    for (const detail::product_plan& plan : plans_) add(plan.shape(), plan.algorithm());
    for (const auto& [shape, algorithm] : recorded_) {  // of an earlier run, not met in this one yet
        if (std::none_of(plans_.begin(), plans_.end(), [&](const detail::product_plan& plan) { return plan.shape() == shape; })) add(shape, algorithm);
    }
    return lines;
}

inline bool cublas::reuse(const std::vector<std::string>& lines) {
    if (lines.empty() || lines.front() != machine_) return false;
    std::vector<std::pair<detail::product, cublasLtMatmulAlgo_t>> taken;
    for (std::size_t i = 1; i < lines.size(); ++i) {
        detail::product shape;
        cublasLtMatmulAlgo_t algorithm{};
        std::size_t at = 0;
        bool whole = true;
        const auto word = [&](const std::string& expected) {  // the next word is `expected`
            const std::string with = (at == 0 ? "" : " ") + expected + " ";
            if (lines[i].compare(at, with.size(), with) != 0) whole = false;
            at = whole ? at + with.size() : at;
        };
        const auto number = [&]() -> std::uint64_t {
            const std::size_t end = std::min(lines[i].find(' ', at), lines[i].size());
            std::uint64_t value = 0;
            whole = whole && end > at && end - at <= 20;
            for (; whole && at < end; ++at) {
                const std::uint64_t digit = static_cast<std::uint64_t>(lines[i][at]) - '0';
                whole = digit < 10 && value <= (~std::uint64_t{0} - digit) / 10;
                value = value * 10 + digit;
            }
            return value;
        };
        detail::product::for_each_field(shape, [&](const char* name, std::int64_t& field) {
            word(name);
            field = static_cast<std::int64_t>(number());
        });
        word("kernel");
        for (std::size_t j = 0; j < std::size(algorithm.data); ++j) {
            if (j > 0 && whole) whole = lines[i][at] == ' ', ++at;
            algorithm.data[j] = number();
        }
        expects(whole && at == lines[i].size(), [&] { return "cublas: expected a product and the kernel chosen for it, got \"" + lines[i] + "\""; });
        taken.emplace_back(shape, algorithm);
    }
    recorded_ = std::move(taken);
    return true;
}

inline void cublas::run(stream_ref stream, const char* op, const detail::product& shape, detail::product_operands at, std::byte* workspace) {
    at.one = one_;
    const std::uint64_t hash = shape.hash();
    for (detail::product_plan& plan : plans_)
        if (plan.hash() == hash && plan.shape() == shape) return plan.run(handle_, stream, op, at, workspace);
    detail::product_plan plan(shape);
    const auto earlier = std::find_if(recorded_.begin(), recorded_.end(), [&](const auto& choice) { return choice.first == shape; });
    earlier == recorded_.end() ? plan.choose(handle_) : plan.choose(handle_, earlier->second);
    plans_.push_back(plan);
    plans_.back().run(handle_, stream, op, at, workspace);
}

namespace detail {

template <class Operand, class A, class B, class D>
[[nodiscard]] product product_of(std::int64_t m, std::int64_t n, std::int64_t k) {
    using T = std::remove_const_t<A>;
    static_assert(std::is_same_v<T, std::remove_const_t<B>>, "a product of the device reads both operands in one format");
    static_assert(std::is_same_v<T, D> || std::is_same_v<D, float>, "a product of the device writes its operands' format, or floats");
    product p;
    p.m = m, p.n = n, p.k = k;
    p.type = data_type<T>, p.type_d = data_type<D>, p.type_bias = data_type<T>;
    p.compute = std::is_same_v<Operand, tf32_format> ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    return p;
}

/// Fills in what depends on where the operands lie, and runs.
template <class A, class B, class D>
void multiply(stream_ref stream, cublas& blas, const char* op, product p, const matrix_view<A>& a, const matrix_view<B>& b,
              const matrix_view<const D>& c, const matrix_view<D>& d, product_operands at, std::byte* workspace) {
    if (p.workspace > 0) expect_pointer(op, "a workspace", workspace, workspace_alignment);
    at.a = a.data, at.b = b.data, at.c = c.data, at.d = d.data;
    p.lda = a.stride, p.ldb = b.stride, p.ldc = c.stride, p.ldd = d.stride;
    // Told on the host that it adds 1 times what it overwrites, the library rounds the product to a two-byte format and lets the
    // memory add: two roundings. It cannot know what a factor on the device is, and adds before it rounds.
    p.factors_on_device = p.add != 0 && sizeof(D) == 2 && at.c == at.d;
    p.align_a = alignment_class(at.a, sizeof(A)), p.align_b = alignment_class(at.b, sizeof(B));
    p.align_c = alignment_class(at.c, sizeof(D)), p.align_d = alignment_class(at.d, sizeof(D));
    blas.run(stream, op, p, at, p.workspace > 0 ? workspace : nullptr);
}

template <class T>
[[nodiscard]] matrix_view<const T> constants(const matrix_view<T>& view) {
    return view;
}

template <class X, class W, class Y>
void expect_linear(const char* op, const matrix_view<X>& x, const matrix_view<W>& w, const matrix_view<Y>& y) {
    expects(w.rows > 0 && w.columns > 0 && x.rows >= 0, [&] {
        return std::string(op) + ": expected widths of at least 1 and no negative count of tokens, got a weight of [" + std::to_string(w.rows) + ", " +
               std::to_string(w.columns) + "] and " + std::to_string(x.rows) + " tokens";
    });
    expect_view(op, "x", x, x.rows, w.columns);
    expect_view(op, "w", w, w.rows, w.columns);
    expect_view(op, "y", y, x.rows, w.rows);
}

/// The library adds a bias in the format of the result alone.
template <class W, class Y>
void expect_bias(const char* op, const std::remove_const_t<W>* bias) {
    expects(bias == nullptr || std::is_same_v<std::remove_const_t<W>, Y>,
            [&] { return std::string(op) + ": expected no bias where the result is floats and the weights are not: the library has no such kernel"; });
}

/// y = x · wᵀ: as cuBLASLt sees it, yᵀ[out, t] = w (kept as [in, out], transposed) · xᵀ[in, t].
template <class Operand, class X, class W, class Y>
[[nodiscard]] product linear_product(const matrix_view<X>& x, const matrix_view<W>& w) {
    product p = product_of<Operand, W, X, Y>(w.rows, x.rows, w.columns);
    p.transpose_a = CUBLAS_OP_T;
    return p;
}

}  // namespace detail

template <class Operand, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::type_identity_t<std::remove_const_t<W>>* bias,
            matrix_view<Y> y, std::byte* workspace, accumulate add) {
    detail::expect_linear("linear", x, w, y);
    detail::expect_bias<W, Y>("linear", bias);
    if (x.rows == 0) return;
    detail::product p = detail::linear_product<Operand, X, W, Y>(x, w);
    p.add = add == accumulate::yes;
    if (bias != nullptr) p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    detail::multiply(stream, blas, "linear", p, w, x, detail::constants(y), y, {.bias = const_cast<std::remove_const_t<W>*>(bias)}, workspace);
}

template <class Operand, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear_residual(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w,
                     const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<const Y> residual, matrix_view<Y> y,
                     std::byte* workspace) {
    detail::expect_linear("linear_residual", x, w, y);
    detail::expect_bias<W, Y>("linear_residual", bias);
    expect_view("linear_residual", "residual", residual, y.rows, y.columns);
    if (x.rows == 0) return;
    detail::product p = detail::linear_product<Operand, X, W, Y>(x, w);
    p.add = 1;
    if (bias != nullptr) p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    detail::multiply(stream, blas, "linear_residual", p, w, x, residual, y, {.bias = const_cast<std::remove_const_t<W>*>(bias)}, workspace);
}

template <class Operand, product_storage X, product_storage W, product_storage Y>
    requires product_operand<Operand, X>
void linear_gelu_tanh(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w,
                      const std::type_identity_t<std::remove_const_t<W>>* bias, matrix_view<Y> pre, matrix_view<Y> y, std::byte* workspace) {
    detail::expect_linear("linear_gelu_tanh", x, w, y);
    detail::expect_bias<W, Y>("linear_gelu_tanh", bias);
    expect_view("linear_gelu_tanh", "pre", pre, y.rows, y.columns, 16);
    if (x.rows == 0) return;
    detail::product p = detail::linear_product<Operand, X, W, Y>(x, w);
    p.epilogue = bias != nullptr ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    p.ldaux = pre.stride;
    detail::multiply(stream, blas, "linear_gelu_tanh", p, w, x, detail::constants(y), y,
                     {.bias = const_cast<std::remove_const_t<W>*>(bias), .aux = pre.data}, workspace);
}

namespace detail {

template <class DY, class W, class DX>
void expect_input_gradient(const char* op, const matrix_view<DY>& dy, const matrix_view<W>& w, const matrix_view<DX>& dx) {
    expects(w.rows > 0 && w.columns > 0 && dy.rows >= 0, [&] {
        return std::string(op) + ": expected widths of at least 1 and no negative count of tokens, got a weight of [" + std::to_string(w.rows) + ", " +
               std::to_string(w.columns) + "] and " + std::to_string(dy.rows) + " tokens";
    });
    expect_view(op, "dy", dy, dy.rows, w.rows);
    expect_view(op, "w", w, w.rows, w.columns);
    expect_view(op, "dx", dx, dy.rows, w.columns);
}

}  // namespace detail

template <class Operand, product_storage DY, product_storage W, product_storage DX>
    requires product_operand<Operand, DY>
void linear_input_gradient(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, std::byte* workspace,
                           accumulate add) {
    detail::expect_input_gradient("linear_input_gradient", dy, w, dx);
    if (dy.rows == 0) return;
    detail::product p = detail::product_of<Operand, W, DY, DX>(w.columns, dy.rows, w.rows);
    p.add = add == accumulate::yes;
    detail::multiply(stream, blas, "linear_input_gradient", p, w, dy, detail::constants(dx), dx, {}, workspace);
}

template <class Operand, product_storage DY, product_storage W, product_storage DX>
    requires product_operand<Operand, DY>
void linear_input_gradient_gelu_tanh(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<W> w, matrix_view<const DX> pre,
                                     matrix_view<DX> d_pre, std::byte* workspace) {
    detail::expect_input_gradient("linear_input_gradient_gelu_tanh", dy, w, d_pre);
    expect_view("linear_input_gradient_gelu_tanh", "pre", pre, dy.rows, w.columns, 16);
    if (dy.rows == 0) return;
    detail::product p = detail::product_of<Operand, W, DY, DX>(w.columns, dy.rows, w.rows);
    p.epilogue = CUBLASLT_EPILOGUE_DGELU;
    p.ldaux = pre.stride;
    detail::multiply(stream, blas, "linear_input_gradient_gelu_tanh", p, w, dy, detail::constants(d_pre), d_pre,
                     {.aux = const_cast<DX*>(pre.data)}, workspace);
}

namespace detail {

/// dwᵀ[in, out] = xᵀ[in, t] · dy (kept as [out, t], transposed)
template <class Operand, class DY, class X, class DW>
[[nodiscard]] product weight_gradient_product(const matrix_view<X>& x, const matrix_view<DW>& dw, accumulate add) {
    product p = product_of<Operand, X, DY, DW>(dw.columns, dw.rows, x.rows);
    p.transpose_b = CUBLAS_OP_T;
    p.add = add == accumulate::yes;
    return p;
}

template <class DY, class X, class DW>
void expect_weight_gradient(const char* op, const matrix_view<DY>& dy, const matrix_view<X>& x, const matrix_view<DW>& dw) {
    expects(dw.rows > 0 && dw.columns > 0 && x.rows >= 0, [&] {
        return std::string(op) + ": expected widths of at least 1 and no negative count of tokens, got a gradient of [" + std::to_string(dw.rows) + ", " +
               std::to_string(dw.columns) + "] and " + std::to_string(x.rows) + " tokens";
    });
    expect_view(op, "dy", dy, x.rows, dw.rows);
    expect_view(op, "x", x, x.rows, dw.columns);
    expect_view(op, "dw", dw, dw.rows, dw.columns);
}

}  // namespace detail

template <class Operand, product_storage DY, product_storage X, product_storage DW>
    requires product_operand<Operand, DY>
void linear_weight_gradient(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, std::byte* workspace,
                            accumulate add) {
    constexpr const char* op = "linear_weight_gradient";
    detail::expect_weight_gradient(op, dy, x, dw);
    if (x.rows == 0) {  // the sum over no tokens
        if (add == accumulate::no)
            check(cudaMemset2DAsync(dw.data, static_cast<std::size_t>(dw.stride) * sizeof(DW), 0, static_cast<std::size_t>(dw.columns) * sizeof(DW),
                                    static_cast<std::size_t>(dw.rows), stream),
                  op);
        return;
    }
    const detail::product p = detail::weight_gradient_product<Operand, DY>(x, dw, add);
    detail::multiply(stream, blas, op, p, x, dy, detail::constants(dw), dw, {}, workspace);
}

}  // namespace longspan::cuda
