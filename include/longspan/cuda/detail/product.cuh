// SPDX-License-Identifier: Apache-2.0
//
// One dense product as cuBLASLt knows it, and cuBLASLt's plan for it: d = a · b (+ c), then the epilogue. cuBLASLt's matrices
// are column-major, so a row-major [rows, columns] view is handed over as its transpose, [columns, rows].
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <string>

#include <longspan/core/types.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/gemm_sizes.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::detail {

/// Throws device_error with cuBLAS's own name for what went wrong. `op` is a literal; `about` follows the reason.
inline void check_blas(cublasStatus_t status, const char* op, const std::string& about = {}) {
    if (status != CUBLAS_STATUS_SUCCESS)
        throw device_error(op, cublasLtGetStatusName(status), cublasLtGetStatusString(status) + (about.empty() ? "" : ": " + about));
}

template <class T>
inline constexpr cudaDataType_t data_type = [] {
    static_assert(sizeof(T) == 0, "the device multiplies floats, bf16 and fp16; fp64 is a precision of the host");
    return CUDA_R_32F;
}();
template <>
inline constexpr cudaDataType_t data_type<float> = CUDA_R_32F;
template <>
inline constexpr cudaDataType_t data_type<bf16> = CUDA_R_16BF;
template <>
inline constexpr cudaDataType_t data_type<fp16> = CUDA_R_16F;

/// All that cuBLASLt's choice may depend on: two products that compare equal get the same kernel.
struct product {
    std::int64_t m = 0, n = 0, k = 0;                          ///< d is [m, n] in columns, k the depth
    std::int64_t transpose_a = 0, transpose_b = 0;             ///< cublasOperation_t
    std::int64_t type = 0, type_d = 0, type_bias = 0;          ///< cudaDataType_t of a and b, of c, d and aux, of the bias
    std::int64_t compute = CUBLAS_COMPUTE_32F;                 ///< cublasComputeType_t
    std::int64_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;         ///< cublasLtEpilogue_t
    std::int64_t add = 0;                                      ///< whether c is added
    std::int64_t factors_on_device = 0;                        ///< whether the factors 1 are read from device memory
    std::int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0, ldaux = 0;
    std::int64_t align_a = 0, align_b = 0, align_c = 0, align_d = 0;  ///< bytes: 256, 16, or an element
    std::int64_t workspace = gemm_workspace;                   ///< bytes that the choice may use
    std::int64_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;        ///< the first answer of this tile is taken, if one of eight has it

    friend bool operator==(const product&, const product&) = default;

    /// Calls f(name, field) for each, in the order of their listing.
    template <class Self, class F>
    static void for_each_field(Self& p, F&& f) {
        f("m", p.m), f("n", p.n), f("k", p.k), f("transpose_a", p.transpose_a), f("transpose_b", p.transpose_b);
        f("type", p.type), f("type_d", p.type_d), f("type_bias", p.type_bias), f("compute", p.compute);
        f("epilogue", p.epilogue), f("add", p.add), f("factors_on_device", p.factors_on_device), f("lda", p.lda), f("ldb", p.ldb), f("ldc", p.ldc), f("ldd", p.ldd);
        f("ldaux", p.ldaux), f("align_a", p.align_a), f("align_b", p.align_b), f("align_c", p.align_c);
        f("align_d", p.align_d), f("workspace", p.workspace), f("tile", p.tile);
    }
    [[nodiscard]] std::uint64_t hash() const {
        std::uint64_t sum = 0xcbf29ce484222325u;
        for_each_field(*this, [&](const char*, std::int64_t field) { sum = (sum ^ static_cast<std::uint64_t>(field)) * 0x100000001b3u; });
        return sum;
    }
    [[nodiscard]] std::string text() const {
        std::string line;
        for_each_field(*this, [&](const char* name, std::int64_t field) { line += std::string(line.empty() ? "" : " ") + name + " " + std::to_string(field); });
        return line;
    }
};

/// Where the matrices of a product lie; c may be d.
struct product_operands {
    const void* a = nullptr;
    const void* b = nullptr;
    const void* c = nullptr;
    void* d = nullptr;
    void* bias = nullptr;  ///< read, or written by the epilogues that sum a bias' gradient
    void* aux = nullptr;
    const float* one = nullptr;  ///< device memory that holds 1
};

/// The alignment that a choice may count on: 256 bytes in an arena, 16 in a view of columns, else an element's.
[[nodiscard]] inline std::int64_t alignment_class(const void* pointer, std::int64_t element) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    return address % 256 == 0 ? 256 : address % 16 == 0 ? 16 : element;
}

/// cuBLASLt's descriptors of a product with its chosen kernel. Plain memory: copied, dropped and kept without a call.
class product_plan {
public:
    explicit product_plan(const product& shape) : shape_(shape), hash_(shape.hash()) {
        constexpr const char* op = "describing a product";
        const auto type = static_cast<cudaDataType_t>(shape.type), type_d = static_cast<cudaDataType_t>(shape.type_d);
        check_blas(cublasLtMatmulDescInit(&description_, static_cast<cublasComputeType_t>(shape.compute), CUDA_R_32F), op);
        set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(shape.transpose_a));
        set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(shape.transpose_b));
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(shape.epilogue));
        if (shape.factors_on_device != 0) set(CUBLASLT_MATMUL_DESC_POINTER_MODE, static_cast<std::int32_t>(CUBLASLT_POINTER_MODE_DEVICE));
        if (has_bias()) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(shape.type_bias));
        if (has_aux()) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, shape.ldaux);
        layout(a_, type, shape.m, shape.k, shape.transpose_a != CUBLAS_OP_N, shape.lda);
        layout(b_, type, shape.k, shape.n, shape.transpose_b != CUBLAS_OP_N, shape.ldb);
        layout(c_, type_d, shape.m, shape.n, false, shape.ldc);
        layout(d_, type_d, shape.m, shape.n, false, shape.ldd);
    }

    /// Asks the heuristic for its first answer: a function of the product, the device's kind and the library's version.
    void choose(cublasLtHandle_t handle) {
        constexpr const char* op = "choosing a product's kernel";
        cublasLtMatmulPreferenceOpaque_t preference;
        check_blas(cublasLtMatmulPreferenceInit(&preference), op);
        const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t name, auto value) {
            check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof value), op);
        };
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(shape_.workspace));
        // Partial sums of a split depth are added in float, by a second kernel in a fixed order.
        prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(shape_.align_a));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(shape_.align_b));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(shape_.align_c));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(shape_.align_d));
        cublasLtMatmulHeuristicResult_t answers[8];
        std::memset(answers, 0, sizeof answers);
        const int wanted = shape_.tile == CUBLASLT_MATMUL_TILE_UNDEFINED ? 1 : 8;
        int count = 0;
        check_blas(cublasLtMatmulAlgoGetHeuristic(handle, &description_, &a_, &b_, &c_, &d_, &preference, wanted, answers, &count), op, shape_.text());
        int taken = 0;
        while (taken < count && wanted > 1 && tile_of(answers[taken].algo) != shape_.tile) ++taken;
        if (taken == count) taken = 0;
        check_blas(count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : answers[taken].state, op, shape_.text());
        algorithm_ = answers[taken].algo;
    }

    /// Takes a choice made before; throws device_error when the library refuses it for this product.
    void choose(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) {
        constexpr const char* op = "taking a recorded choice for a product";
        cublasLtMatmulHeuristicResult_t answer;
        std::memset(&answer, 0, sizeof answer);
        check_blas(cublasLtMatmulAlgoCheck(handle, &description_, &a_, &b_, &c_, &d_, &algorithm, &answer), op, shape_.text());
        check_blas(static_cast<std::int64_t>(answer.workspaceSize) > shape_.workspace ? CUBLAS_STATUS_NOT_SUPPORTED : answer.state, op, shape_.text());
        algorithm_ = algorithm;
    }

    /// Puts the product on the stream. Allocates nothing of ours; legal inside a capture.
    void run(cublasLtHandle_t handle, cudaStream_t stream, const char* op, const product_operands& at, std::byte* workspace) {
        if (has_bias()) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, at.bias);
        if (has_aux()) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, at.aux);
        const float host_one = 1, host_zero = 0;
        const float* const alpha = shape_.factors_on_device != 0 ? at.one : &host_one;
        const float* const beta = shape_.add == 0 ? &host_zero : alpha;
        check_blas(cublasLtMatmul(handle, &description_, alpha, at.a, &a_, at.b, &b_, beta, shape_.add != 0 ? at.c : at.d, &c_, at.d, &d_,
                             &algorithm_, workspace, workspace == nullptr ? 0 : static_cast<std::size_t>(shape_.workspace), stream),
              op);
    }

    [[nodiscard]] const product& shape() const { return shape_; }
    [[nodiscard]] std::uint64_t hash() const { return hash_; }
    [[nodiscard]] const cublasLtMatmulAlgo_t& algorithm() const { return algorithm_; }

private:
    product shape_;
    std::uint64_t hash_;
    cublasLtMatmulDescOpaque_t description_{};
    cublasLtMatrixLayoutOpaque_t a_{}, b_{}, c_{}, d_{};
    cublasLtMatmulAlgo_t algorithm_{};

    [[nodiscard]] bool has_bias() const {
        constexpr std::int64_t gradient_of_bias = 16;  // the bit that tells DGELU_BGRAD from DGELU
        return (shape_.epilogue & (CUBLASLT_EPILOGUE_BIAS | gradient_of_bias | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB)) != 0;
    }
    [[nodiscard]] bool has_aux() const { return (shape_.epilogue & 128) != 0; }  // the bit of every ..._AUX and of DGELU
    [[nodiscard]] static std::int64_t tile_of(const cublasLtMatmulAlgo_t& algorithm) {
        std::uint32_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;
        std::size_t written = 0;
        check_blas(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &written), "describing a product");
        return tile;
    }
    template <class T>
    void set(cublasLtMatmulDescAttributes_t name, T value) {
        check_blas(cublasLtMatmulDescSetAttribute(&description_, name, &value, sizeof value), "describing a product");
    }
    static void layout(cublasLtMatrixLayoutOpaque_t& of, cudaDataType_t type, std::int64_t rows, std::int64_t columns, bool transposed,
                       std::int64_t stride) {
        check_blas(cublasLtMatrixLayoutInit(&of, type, static_cast<std::uint64_t>(transposed ? columns : rows),
                                       static_cast<std::uint64_t>(transposed ? rows : columns), stride),
              "describing a product");
    }
};

}  // namespace longspan::cuda::detail
