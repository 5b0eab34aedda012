// SPDX-License-Identifier: Apache-2.0
//
// An NVIDIA GPU as a backend, by name and by size: `ls::trainer<config, ls::cuda::device>`. Everything that a plan asks of it is a
// constant expression, and no CUDA header is needed: a plan for a GPU is checked by any C++ compiler, on a machine without one.
//
//     static_assert(ls::plan<config, ls::cuda::device>.peak() <= 80 * ls::GiB);
//
// What runs on it is in cuda/trainer.cuh, which one .cu of a program includes.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <longspan/core/piece.hpp>
#include <longspan/core/types.hpp>
#include <longspan/cuda/attention_sizes.hpp>
#include <longspan/cuda/embedding_sizes.hpp>
#include <longspan/cuda/gemm_sizes.hpp>
#include <longspan/cuda/hopper/attention_sizes.hpp>
#include <longspan/cuda/loss_sizes.hpp>
#include <longspan/cuda/norm_sizes.hpp>
#include <longspan/cuda/reduce_sizes.hpp>
#include <longspan/memory/device_rates.hpp>
#include <longspan/precision/policy.hpp>

namespace longspan::cuda {

class device {
public:
    /// Of every region: what TMA, cuBLASLt and 16-byte accesses want, and more.
    static constexpr bytes alignment = 256;
    static constexpr const char* name = "cuda";
    static constexpr bool in_host_memory = false;
    using segment = attention_segment;
    class ops;      // cuda/ops.cuh
    class runtime;  // cuda/runtime.cuh

    /// A value on its way back from the device; belongs to its runtime.
    template <class T>
    class fetched {
    public:
        fetched() = default;
        fetched(runtime& from, index slot) : runtime_(&from), slot_(slot) {}
        fetched(fetched&& other) noexcept : runtime_(other.runtime_), slot_(other.slot_), value_(other.value_) { other.runtime_ = nullptr; }
        fetched& operator=(fetched&& other) noexcept {
            std::swap(runtime_, other.runtime_);
            std::swap(slot_, other.slot_);
            std::swap(value_, other.value_);
            return *this;
        }
        ~fetched();
        /// Waits until it is there.
        [[nodiscard]] const T& get() const;

    private:
        mutable runtime* runtime_ = nullptr;  // null once the value is home
        index slot_ = 0;
        mutable T value_{};
    };

    /// Tokens, targets, ids in order, weights, pieces, and room for the losses of tokens.
    [[nodiscard]] static constexpr bytes batch_memory(index tokens, index max_pieces) {
        return 4 * round_up(tokens * bytes{4}, alignment) + round_up(max_pieces * bytes{sizeof(piece)}, alignment) +
               round_up(tokens * bytes{sizeof(double)}, alignment);
    }
    [[nodiscard]] static constexpr bytes segment_memory(index tokens, index max_pieces) { return attention_segment_memory(tokens, max_pieces); }

    /// Scratch of the ops that run one after another: the largest of theirs.
    template <class Model>
    [[nodiscard]] static constexpr bytes workspace(index tokens) {
        constexpr auto shape = Model::shape;
        const index widest = larger(shape.query_width() + 2 * shape.key_value_width(), larger(shape.gated() ? 2 * shape.hidden : shape.hidden, shape.width));
        return larger(larger(gemm_workspace, bias_gradient_workspace(widest)),
                      larger(norm_workspace(larger(shape.width, shape.head())), embedding_backward_workspace(tokens, shape.width)));
    }
    [[nodiscard]] static constexpr bytes update_workspace(index /*parameters*/) { return sum_of_squares_workspace(); }

    /// Whether a model's attention runs on Hopper's tensor cores: two-byte formats, heads of 64, 128 or 256. Others take the
    /// kernels that run on any GPU since sm_80.
    template <class Model>
    static constexpr bool on_hopper = sizeof(typename Model::template storage<role::activation>) == 2 &&
                                      (Model::shape.head() == 64 || Model::shape.head() == 128 || Model::shape.head() == 256);
    /// Of one group of heads.
    template <class Model>
    [[nodiscard]] static constexpr bytes attention_workspace(index tokens) {
        constexpr auto shape = Model::shape;
        if constexpr (!on_hopper<Model>) return portable_attention_workspace<Model>(tokens);
        else return hopper::attention_backward_workspace(tokens, shape.group_heads(), shape.group_key_value_heads(), shape.head());
    }
    template <class Model>
    [[nodiscard]] static constexpr bytes loss_workspace(index tokens) {
        return cuda::loss_workspace<typename Model::template storage<role::activation>>(chunk<Model>(tokens), Model::shape.vocabulary);
    }

    /// With attention by the kernels that run on any GPU.
    template <class Model>
    [[nodiscard]] static constexpr bytes portable_attention_workspace(index tokens) {
        constexpr auto shape = Model::shape;
        return attention_backward_workspace(tokens, shape.group_heads(), shape.group_key_value_heads(), shape.head());
    }
    template <class Model>
    static constexpr device_rates portable_rates = sizeof(typename Model::template storage<role::activation>) == 2 ? h200_portable : h200_fp32;
    /// What the GPU that was measured does in a second (docs/forecast.md). Another's rates are a config's to name.
    template <class Model>
    static constexpr device_rates rates = on_hopper<Model> ? h200 : portable_rates<Model>;

protected:
    template <class Model>
    [[nodiscard]] static constexpr index chunk(index tokens) {
        return Model::shape.loss_chunk < tokens ? Model::shape.loss_chunk : tokens;
    }
    [[nodiscard]] static constexpr bytes larger(bytes a, bytes b) { return a > b ? a : b; }
};

/// The same with attention through mma.sync alone: any GPU since sm_80, and the twin that Hopper's kernels are tested against.
class portable_device : public device {
public:
    static constexpr const char* name = "cuda, portable attention";
    class ops;  // cuda/ops.cuh
    template <class Model>
    static constexpr device_rates rates = portable_rates<Model>;
    template <class>
    static constexpr bool on_hopper = false;
    template <class Model>
    [[nodiscard]] static constexpr bytes attention_workspace(index tokens) {
        return portable_attention_workspace<Model>(tokens);
    }
};

}  // namespace longspan::cuda
