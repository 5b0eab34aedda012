// SPDX-License-Identifier: Apache-2.0
//
// The device's ops under the names that layers call (host/cpu.hpp has the same): one object for one stretch of a stream, with the
// scratch that its ops share. Everything that a configuration fixes is in the calls' types.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <longspan/core/bad_ids.hpp>
#include <longspan/core/dropout.hpp>
#include <longspan/core/kinds.hpp>
#include <longspan/cuda/activation.cuh>
#include <longspan/cuda/adamw.cuh>
#include <longspan/cuda/attention.cuh>
#include <longspan/cuda/copies.cuh>
#include <longspan/cuda/device.hpp>
#include <longspan/cuda/embedding.cuh>
#include <longspan/cuda/fill.cuh>
#include <longspan/cuda/fixed_stream.cuh>
#include <longspan/cuda/gemm.cuh>
#include <longspan/cuda/head_norm_rotary.cuh>
#include <longspan/cuda/hopper/attention.cuh>
#include <longspan/cuda/loss.cuh>
#include <longspan/cuda/narrow_adamw.cuh>
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/position.cuh>
#include <longspan/cuda/random_origin.hpp>
#include <longspan/cuda/reduce.cuh>
#include <longspan/cuda/residual.cuh>
#include <longspan/cuda/rotary.cuh>
#include <longspan/cuda/runtime.cuh>

namespace longspan::cuda {

/// How a branch is thinned: the two rates, and where its draws come from.
struct branch_thinning {
    branch_drop drop;
    random_origin origin;
};

/// `Device` says which attention there is.
template <class Device>
class ops_on : public Device {
    using typename Device::runtime, typename Device::segment;

public:
    /// On a stream of the caller's, with a cuBLASLt handle that no other stream uses meanwhile, and, for policies under which tensors
    /// leave the device, copies beside it.
    ops_on(stream_ref stream, cublas& blas, std::byte* workspace = nullptr, bad_ids* notes = nullptr, const cuda::copies* beside = nullptr)
        : stream_(stream), blas_(&blas), workspace_(workspace), notes_(notes), copies_(beside) {}
    explicit ops_on(runtime& on, std::byte* workspace = nullptr, bad_ids* notes = nullptr)
        : ops_on(on.stream(), on.blas(), workspace, notes, on.copies()) {}
    /// The same, with scratch of Device::workspace bytes and a place to note ids outside the vocabulary.
    [[nodiscard]] typename Device::ops with(std::byte* workspace, bad_ids* notes) const {
        return {stream_, *blas_, workspace, notes, copies_};
    }

    // --- copies to pinned memory and back (memory/transfer.hpp) ---------------------------------------------------------------
    template <class Pieces>
    void leave(index number, Pieces&& pieces) const {
        copies().leave(stream_, number, pieces);
    }
    template <class Pieces>
    void fetch(index number, Pieces&& pieces) const {
        copies().fetch(stream_, number, pieces);
    }
    void wait(index number) const { copies().wait(stream_, number); }

    // --- dense products -----------------------------------------------------------------------------------------------------
    template <class Model, class X, class W, class Y>
    void linear(matrix_view<X> x, matrix_view<W> w, const std::remove_const_t<W>* bias, matrix_view<Y> y) const {
        cuda::linear<rounding<Model>>(stream_, blas(), x, w, bias, y, workspace_);
    }
    template <class Model, class X, class W, class R, class Y>
    void linear_onto(matrix_view<X> x, matrix_view<W> w, const std::remove_const_t<W>* bias, matrix_view<R> onto, matrix_view<Y> y) const {
        cuda::linear_residual<rounding<Model>>(stream_, blas(), x, w, bias, matrix_view<const Y>(onto), y, workspace_);
    }
    template <class Model, class DY, class W, class DX>
    void linear_input_gradient(matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, bool add = false) const {
        cuda::linear_input_gradient<rounding<Model>>(stream_, blas(), dy, w, dx, workspace_, accumulate{add});
    }
    template <class Model, class DY, class X, class DW>
    void linear_weight_gradient(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw) const {
        cuda::linear_weight_gradient<rounding<Model>>(stream_, blas(), dy, x, dw, workspace_, accumulate::yes);
    }
    /// Of a weight and its bias; of the weight alone where the shape has no biases, or db is null.
    template <class Model, class DY, class X, class DW, class DB>
    void linear_parameter_gradients(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, DB* db) const {
        if constexpr (Model::shape.bias) {
            if (db != nullptr) return cuda::linear_parameter_gradients<rounding<Model>>(stream_, blas(), dy, x, dw, db, workspace_, accumulate::yes);
        }
        linear_weight_gradient<Model>(dy, x, dw);
    }

    // --- norms ----------------------------------------------------------------------------------------------------------------
    template <index Width, class X, class W, class Y, class S>
    void rms_norm(matrix_view<X> x, const W* w, double epsilon, matrix_view<Y> y, S* rstd) const {
        cuda::rms_norm<Width>(stream_, x, w, epsilon, y, rstd);
    }
    template <index Width, bool Add, class DY, class X, class W, class S, class DX, class DW>
    void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* rstd, matrix_view<DX> dx, DW* dw) const {
        cuda::rms_norm_backward<Width, accumulate{Add}>(stream_, dy, x, w, rstd, dx, dw, workspace_);
    }
    template <index Width, class X, class W, class Y, class S>
    void layer_norm(matrix_view<X> x, const W* w, const W* b, double epsilon, matrix_view<Y> y, S* mean, S* rstd) const {
        cuda::layer_norm<Width>(stream_, x, w, b, epsilon, y, mean, rstd);
    }
    template <index Width, bool Add, class DY, class X, class W, class S, class DX, class DW>
    void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* mean, const S* rstd, matrix_view<DX> dx, DW* dw, DW* db) const {
        cuda::layer_norm_backward<Width, accumulate{Add}>(stream_, dy, x, w, mean, rstd, dx, dw, db, workspace_);
    }
    template <index Head, class X, class W, class Y, class S>
    void head_norm(matrix_view<X> x, const W* w, double epsilon, matrix_view<Y> y, S* rstd) const {
        cuda::head_norm<Head>(stream_, x, w, epsilon, y, rstd);
    }
    template <index Head, class DY, class X, class W, class S, class DX, class DW>
    void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* rstd, matrix_view<DX> dx, DW* dw) const {
        cuda::head_norm_backward<Head>(stream_, dy, x, w, rstd, dx, dw, workspace_);
    }
    /// Of queries and keys (core/normed_heads.hpp).
    template <index Head, class Queries, class Keys, class S>
    void head_norm_rotary(const Queries& queries, const Keys& keys, double epsilon, matrix_view<S> cosines, matrix_view<S> sines) const {
        cuda::head_norm_rotary<Head>(stream_, queries, keys, epsilon, cosines, sines);
    }
    template <index Head, class Queries, class Keys, class S>
    void head_norm_rotary_backward(const Queries& queries, const Keys& keys, matrix_view<S> cosines, matrix_view<S> sines) const {
        cuda::head_norm_rotary_backward<Head>(stream_, queries, keys, cosines, sines, workspace_);
    }

    // --- activations ------------------------------------------------------------------------------------------------------------
    template <mlp_kind Kind, index Hidden, class X, class Y>
    void activate(matrix_view<X> x, matrix_view<Y> y) const {
        if constexpr (Kind == mlp_kind::silu_gated) cuda::silu_gated<Hidden>(stream_, x, y);
        else if constexpr (Kind == mlp_kind::gelu) cuda::gelu<Hidden>(stream_, x, y);
        else cuda::gelu_tanh<Hidden>(stream_, x, y);
    }
    /// Also makes the activation again.
    template <mlp_kind Kind, index Hidden, class DY, class X, class DX, class Y>
    void activate_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) const {
        if constexpr (Kind == mlp_kind::silu_gated) cuda::silu_gated_backward<Hidden>(stream_, dy, x, dx, y);
        else if constexpr (Kind == mlp_kind::gelu) cuda::gelu_backward<Hidden>(stream_, dy, x, dx, y);
        else cuda::gelu_tanh_backward<Hidden>(stream_, dy, x, dx, y);
    }

    // --- the stream: embedding, positions, branches -------------------------------------------------------------------------------
    template <index Width, class W, class X>
    void embed(const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x) const {
        cuda::embed<Width>(stream_, tokens, table, x, note(&bad_ids::token));
    }
    template <index Width, class DX, class DW>
    void embed_backward(matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> d_table) const {
        cuda::embedding_backward<Width>(stream_, dx, tokens, sorted, d_table, workspace_);
    }
    template <index Width, class W, class X>
    void add_learned_positions(const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) const {
        cuda::add_learned_positions<Width>(stream_, pieces, table, x);
    }
    template <index Width, class DX, class DW>
    void learned_positions_backward(const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> d_table) const {
        cuda::learned_positions_backward<Width>(stream_, pieces, dx, d_table);
    }
    template <index Width, class X>
    void add_sinusoidal_positions(const piece_table& pieces, matrix_view<X> x) const {
        cuda::add_sinusoidal_positions<Width>(stream_, pieces, x);
    }
    template <index Head, class S>
    void rotary_table(const piece_table& pieces, double base, matrix_view<S> cosines, matrix_view<S> sines) const {
        cuda::rotary_table<Head>(stream_, pieces, base, cosines, sines);
    }
    /// In place.
    template <index Head, class X, class S>
    void rotary(matrix_view<X> x, matrix_view<S> cosines, matrix_view<S> sines, bool forward) const {
        cuda::rotary<Head>(stream_, x, cosines, sines, x, forward ? direction::forward : direction::backward);
    }
    [[nodiscard]] static branch_thinning thinning(const run_keys* keys, index layer, std::uint32_t site, double dropout, double skip) {
        return {{dropout_rate(dropout), depth_rate(skip)}, {{.seed = 0, .step = 0, .layer = static_cast<std::uint32_t>(layer), .site = site}, keys}};
    }
    template <index Width, class X, class B, class Y>
    void add_branch(matrix_view<X> x, matrix_view<B> branch, const branch_thinning& thin, const piece_rows& pieces, matrix_view<Y> y) const {
        if constexpr (fixed_format<Y>) cuda::add_branch<Width>(stream_, x, branch, y, pieces, thin.drop, thin.origin, note(&bad_ids::stream));
        else cuda::residual<Width>(stream_, x, branch, y, pieces, thin.drop, thin.origin);
    }
    template <index Width, class Y, class B, class X>
    void take_branch(matrix_view<Y> y, matrix_view<B> branch, const branch_thinning& thin, const piece_rows& pieces, matrix_view<X> x) const {
        cuda::take_branch<Width>(stream_, y, branch, x, pieces, thin.drop, thin.origin, note(&bad_ids::stream));
    }
    template <index Width, class V, class X>
    void start_stream(matrix_view<V> values, matrix_view<X> x) const {
        cuda::start_stream<Width>(stream_, values, x, note(&bad_ids::stream));
    }
    template <index Width, class X, class O>
    void add_stream(matrix_view<X> x, matrix_view<O> other) const {
        cuda::add_stream<Width>(stream_, x, other);
    }
    template <index Width, class X, class O>
    void take_stream(matrix_view<X> x, matrix_view<O> other) const {
        cuda::take_stream<Width>(stream_, x, other);
    }
    template <class X, class Y>
    void copy(matrix_view<X> x, matrix_view<Y> y) const {
        static_assert(std::is_same_v<std::remove_const_t<X>, Y>);
        constexpr auto size = sizeof(Y);
        check(cudaMemcpy2DAsync(y.data, static_cast<std::size_t>(y.stride) * size, x.data, static_cast<std::size_t>(x.stride) * size,
                                static_cast<std::size_t>(x.columns) * size, static_cast<std::size_t>(x.rows), cudaMemcpyDeviceToDevice, stream_),
              "copy");
    }
    template <index Width, class X, class Y>
    void thin(matrix_view<X> x, const branch_thinning& thin, const piece_rows& pieces, matrix_view<Y> y) const {
        cuda::residual_backward<Width>(stream_, x, y, pieces, thin.drop, thin.origin);
    }

    // --- attention, loss ----------------------------------------------------------------------------------------------------------
    void make_segments(const piece_table& pieces, segment* out) const;
    template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S>
    void attention_forward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                           matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse) const;
    template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S, class DO, class D, class DSink>
    void attention_backward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                            matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse, matrix_view<DO> d_out, matrix_view<D> dq,
                            matrix_view<D> dk, matrix_view<D> dv, DSink* d_sink, std::byte* workspace) const;

    template <class Model, class X, class W, class Goal, class DX, class DW>
    void loss(matrix_view<X> x, matrix_view<W> table, const Goal& to, matrix_view<DX> dx, matrix_view<DW> d_table, std::byte* workspace) const {
        cuda::linear_cross_entropy_gradients<Model::shape.vocabulary, rounding<Model>>(stream_, blas(), x, table, to.targets, options<Model>(to),
                                                                                       Device::template chunk<Model>(x.rows), dx, d_table, to.sums, workspace);
    }
    template <class Model, class X, class W, class Goal>
    void loss_only(matrix_view<X> x, matrix_view<W> table, const Goal& to, std::byte* workspace) const {
        cuda::linear_cross_entropy<Model::shape.vocabulary, rounding<Model>>(stream_, blas(), x, table, to.targets, options<Model>(to),
                                                                             Device::template chunk<Model>(x.rows), to.sums, workspace);
    }

    // --- parameters -------------------------------------------------------------------------------------------------------------
    template <class T>
    void zero(std::span<T> values) const {
        check(cudaMemsetAsync(values.data(), 0, values.size_bytes(), stream_), "zero", static_cast<bytes>(values.size_bytes()));
    }
    template <class T>
    void fill(std::span<T> values, double value) const {
        cuda::fill(stream_, values, value);
    }
    template <class T>
    void fill_normal(std::span<T> values, std::uint64_t seed, std::uint32_t ordinal, double deviation) const {
        cuda::fill_normal(stream_, values, seed, ordinal, deviation);
    }
    template <class Master, class Weight>
    void round(std::span<Master> masters, std::span<Weight> weights) const {
        cuda::round(stream_, masters, weights);
    }
    /// to += from, rounded once.
    template <class From, class To>
    void add_rounded(std::span<From> from, std::span<To> to) const {
        cuda::add_rounded(stream_, from, to);
    }
    template <class T>
    void sum_of_squares(std::span<T> values, double* out) const {
        cuda::sum_of_squares(stream_, values, out, workspace_);
    }
    template <class T>
    void first_non_finite(std::span<T> values, index* out) const {
        cuda::first_non_finite(stream_, values, out);
    }
    template <class Master, class Weight, class G, class M>
    void adamw(std::span<Master> masters, std::span<Weight> weights, std::span<G> gradients, std::span<M> first, std::span<M> second,
               const std::uint8_t* decays, const adamw_update* updates, const int* apply) const {
        cuda::adamw(stream_, masters, weights, gradients, first, second, decays, updates, apply);
    }
    /// The same of any run of a store, in whichever formats its state is stored; `source` gives the draws of stochastic rounding.
    template <class Master, class Weight, class G, class Moment>
    void update(const update_run<Master, Weight, G, Moment>& run, const adamw_update* updates, const rounding_source& source,
                const int* apply) const {
        if constexpr (std::is_void_v<Master> || !std::is_floating_point_v<Moment> || !std::is_floating_point_v<G>) {
            cuda::narrow_adamw(stream_, run, updates, source, apply);
        } else {
            const auto all = [&](auto* from) { return std::span(from, static_cast<std::size_t>(run.size)); };
            const auto update = [&](auto weights) {
                cuda::adamw(stream_, all(run.masters), weights, all(run.gradients), all(run.first.values), all(run.second.values), run.decays, updates,
                            apply);
            };
            if constexpr (std::is_void_v<Weight>) update(all(run.masters));
            else update(all(run.weights));
        }
    }

private:
    /// What products round their operands to: nothing, unless the format is narrower than its storage.
    template <class Model>
    using rounding = std::conditional_t<std::is_same_v<typename Model::precision::operand, tf32_format>, tf32_format, void>;

    [[nodiscard]] cublas& blas() const { return *blas_; }
    [[nodiscard]] const cuda::copies& copies() const {
        expects(copies_ != nullptr, [] { return std::string("ops of a policy that offloads need cuda::copies beside their stream; these have none"); });
        return *copies_;
    }
    [[nodiscard]] index* note(index bad_ids::*which) const { return notes_ == nullptr ? nullptr : &(notes_->*which); }
    template <class Model, class Goal>
    [[nodiscard]] cross_entropy_options options(const Goal& to) const {
        return {.smoothing = Model::shape.label_smoothing, .scale = to.scale, .token_weights = to.target_weights,
                .token_losses = to.token_losses, .first_bad = note(&bad_ids::target), .first_token = to.first};
    }

    stream_ref stream_;
    cublas* blas_;
    std::byte* workspace_;
    bad_ids* notes_;
    const cuda::copies* copies_;
};

class device::ops : public ops_on<device> {
    using ops_on<device>::ops_on;
};
class portable_device::ops : public ops_on<portable_device> {
    using ops_on<portable_device>::ops_on;
};

}  // namespace longspan::cuda

#include <longspan/cuda/detail/ops_attention.cuh>
