// SPDX-License-Identifier: Apache-2.0
//
// The host as a backend: the ops of this folder under the names that layers call. A backend is a value (a CUDA backend holds its
// stream; this one holds nothing), its ops are its members, and the sizes which a plan needs are constant expressions of it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <longspan/core/bad_ids.hpp>
#include <longspan/core/kinds.hpp>
#include <longspan/core/normal.hpp>
#include <longspan/core/run_keys.hpp>
#include <longspan/host/activation.hpp>
#include <longspan/host/adamw.hpp>
#include <longspan/host/attention.hpp>
#include <longspan/host/dropout.hpp>
#include <longspan/host/embedding.hpp>
#include <longspan/host/fixed_stream.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/head_norm_rotary.hpp>
#include <longspan/host/loss.hpp>
#include <longspan/host/narrow_adamw.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/position.hpp>
#include <longspan/host/reduce.hpp>
#include <longspan/host/residual.hpp>
#include <longspan/host/rotary.hpp>
#include <longspan/host/runtime.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/precision/policy.hpp>

namespace longspan::host {

/// How a branch is thinned: the two rates, and the keys of their draws.
struct branch_thinning {
    branch_drop drop;
    random_site site;
};

class cpu {
public:
    using ops = cpu;
    using runtime = host::runtime;
    cpu() = default;
    /// Scratch of the ops comes from the stack of each thread here; other backends take theirs from `workspace`.
    /// Bad ids throw; `notes` are for streams that leave their range.
    explicit cpu(runtime&, std::byte* /*workspace*/ = nullptr, bad_ids* notes = nullptr) : notes_(notes) {}
    [[nodiscard]] cpu with(std::byte* /*workspace*/, bad_ids* notes) const {
        cpu noting;
        noting.notes_ = notes;
        return noting;
    }
    template <class T>
    using fetched = runtime::fetched<T>;
    template <class Model>
    [[nodiscard]] static constexpr bytes workspace(index /*tokens*/) { return 0; }
    [[nodiscard]] static constexpr bytes update_workspace(index /*parameters*/) { return 0; }
    /// Batches are read where the caller has them.
    [[nodiscard]] static constexpr bytes batch_memory(index /*tokens*/, index /*max_pieces*/) { return 0; }
    static constexpr bytes alignment = host_alignment;
    static constexpr const char* name = "host";
    static constexpr bool in_host_memory = true;
    using segment = attention_segment;

    // --- copies to pinned memory and back (memory/transfer.hpp): here there is one memory, and a copy is done at once --------------
    template <class Pieces>
    static void leave(index /*number*/, Pieces&& pieces) {
        pieces([](std::byte* here, std::byte* away, bytes size) { std::memcpy(away, here, static_cast<std::size_t>(size)); });
    }
    template <class Pieces>
    static void fetch(index /*number*/, Pieces&& pieces) {
        pieces([](std::byte* here, std::byte* away, bytes size) { std::memcpy(here, away, static_cast<std::size_t>(size)); });
    }
    static void wait(index /*number*/) {}

    // --- dense products, in the operand format of the model's precision -------------------------------------------------------
    template <class Model, class X, class W, class Y>
    static void linear(matrix_view<X> x, matrix_view<W> w, const std::remove_const_t<W>* bias, matrix_view<Y> y) {
        host::linear<rounding<Model>>(x, w, bias, y);
    }
    /// y = onto + x·wᵀ (+ bias), rounded once.
    template <class Model, class X, class W, class R, class Y>
    static void linear_onto(matrix_view<X> x, matrix_view<W> w, const std::remove_const_t<W>* bias, matrix_view<R> onto, matrix_view<Y> y) {
        copy(onto, y);
        host::linear<rounding<Model>>(x, w, bias, y, accumulate::yes);
    }
    template <class Model, class DY, class W, class DX>
    static void linear_input_gradient(matrix_view<DY> dy, matrix_view<W> w, matrix_view<DX> dx, bool add = false) {
        host::linear_input_gradient<rounding<Model>>(dy, w, dx, accumulate{add});
    }
    template <class Model, class DY, class X, class DW>
    static void linear_weight_gradient(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw) {
        host::linear_weight_gradient<rounding<Model>>(dy, x, dw, accumulate::yes);
    }
    /// Of a weight and its bias; of the weight alone where the shape has no biases, or db is null.
    template <class Model, class DY, class X, class DW, class DB>
    static void linear_parameter_gradients(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, DB* db) {
        linear_weight_gradient<Model>(dy, x, dw);
        if constexpr (Model::shape.bias) {
            if (db != nullptr) host::linear_bias_gradient(dy, db, accumulate::yes);
        }
    }

    // --- norms ----------------------------------------------------------------------------------------------------------------
    template <index Width, class X, class W, class Y, class S>
    static void rms_norm(matrix_view<X> x, const W* w, double epsilon, matrix_view<Y> y, S* rstd) {
        host::rms_norm(x, w, epsilon, y, rstd);
    }
    template <index Width, bool Add, class DY, class X, class W, class S, class DX, class DW>
    static void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* rstd, matrix_view<DX> dx, DW* dw) {
        host::rms_norm_backward(dy, x, w, rstd, dx, accumulate{Add}, dw);
    }
    template <index Width, class X, class W, class Y, class S>
    static void layer_norm(matrix_view<X> x, const W* w, const W* b, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
        host::layer_norm(x, w, b, epsilon, y, mean, rstd);
    }
    template <index Width, bool Add, class DY, class X, class W, class S, class DX, class DW>
    static void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* mean, const S* rstd, matrix_view<DX> dx,
                                    DW* dw, DW* db) {
        host::layer_norm_backward(dy, x, w, mean, rstd, dx, accumulate{Add}, dw, db);
    }
    template <index Head, class X, class W, class Y, class S>
    static void head_norm(matrix_view<X> x, const W* w, double epsilon, matrix_view<Y> y, S* rstd) {
        host::head_norm(x, w, Head, epsilon, y, rstd);
    }
    template <index Head, class DY, class X, class W, class S, class DX, class DW>
    static void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* rstd, matrix_view<DX> dx, DW* dw) {
        host::head_norm_backward(dy, x, w, Head, rstd, dx, dw);
    }
    /// Of queries and keys (core/normed_heads.hpp).
    template <index Head, class Queries, class Keys, class S>
    static void head_norm_rotary(const Queries& queries, const Keys& keys, double epsilon, matrix_view<S> cosines, matrix_view<S> sines) {
        host::head_norm_rotary(queries, keys, Head, epsilon, cosines, sines);
    }
    template <index Head, class Queries, class Keys, class S>
    static void head_norm_rotary_backward(const Queries& queries, const Keys& keys, matrix_view<S> cosines, matrix_view<S> sines) {
        host::head_norm_rotary_backward(queries, keys, Head, cosines, sines);
    }

    // --- activations ------------------------------------------------------------------------------------------------------------
    template <mlp_kind Kind, index Hidden, class X, class Y>
    static void activate(matrix_view<X> x, matrix_view<Y> y) {
        if constexpr (Kind == mlp_kind::silu_gated) host::silu_gated(x, y);
        else if constexpr (Kind == mlp_kind::gelu) host::gelu(x, y);
        else host::gelu_tanh(x, y);
    }
    /// Also makes the activation again.
    template <mlp_kind Kind, index Hidden, class DY, class X, class DX, class Y>
    static void activate_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
        if constexpr (Kind == mlp_kind::silu_gated) host::silu_gated_backward(dy, x, dx, y);
        else if constexpr (Kind == mlp_kind::gelu) host::gelu_backward(dy, x, dx, y);
        else host::gelu_tanh_backward(dy, x, dx, y);
    }

    // --- the stream: embedding, positions, branches -------------------------------------------------------------------------------
    template <index Width, class W, class X>
    static void embed(const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x) {
        host::embed(tokens, table, x);
    }
    template <index Width, class DX, class DW>
    static void embed_backward(matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> d_table) {
        host::embedding_backward(dx, tokens, sorted, d_table);
    }
    template <index Width, class W, class X>
    static void add_learned_positions(const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) {
        host::add_learned_positions(pieces, table, x);
    }
    template <index Width, class DX, class DW>
    static void learned_positions_backward(const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> d_table) {
        host::learned_positions_backward(pieces, dx, d_table);
    }
    template <index Width, class X>
    static void add_sinusoidal_positions(const piece_table& pieces, matrix_view<X> x) {
        host::add_sinusoidal_positions(pieces, x);
    }
    template <index Head, class S>
    static void rotary_table(const piece_table& pieces, double base, matrix_view<S> cosines, matrix_view<S> sines) {
        host::rotary_table(pieces, Head, base, cosines, sines);
    }
    /// In place.
    template <index Head, class X, class S>
    static void rotary(matrix_view<X> x, matrix_view<S> cosines, matrix_view<S> sines, bool forward) {
        host::rotary(x, Head, cosines, sines, x, forward ? direction::forward : direction::backward);
    }
    template <class X, class Y>
    static void copy(matrix_view<X> x, matrix_view<Y> y) {
        static_assert(std::is_same_v<std::remove_const_t<X>, Y>);
        parallel_for(ceil_div(x.rows, 256), [&](index block) {
            for (index r = block * 256; r < x.rows && r < (block + 1) * 256; ++r) {
                std::memcpy(y.row(r), x.row(r), static_cast<std::size_t>(x.columns) * sizeof(Y));
            }
        });
    }
    [[nodiscard]] static branch_thinning thinning(const run_keys* keys, index layer, std::uint32_t site, double dropout, double skip) {
        return {{dropout_rate(dropout), depth_rate(skip)}, {keys->seed, keys->step, static_cast<std::uint32_t>(layer), site}};
    }
    template <index Width, class X, class B, class Y>
    void add_branch(matrix_view<X> x, matrix_view<B> branch, const branch_thinning& thin, const piece_rows& pieces, matrix_view<Y> y) const {
        if constexpr (fixed_format<Y>) host::add_branch(x, branch, y, pieces, thin.drop, thin.site, stream_note());
        else host::residual(x, branch, y, pieces, thin.drop, thin.site);
    }
    template <index Width, class Y, class B, class X>
    void take_branch(matrix_view<Y> y, matrix_view<B> branch, const branch_thinning& thin, const piece_rows& pieces, matrix_view<X> x) const {
        host::take_branch(y, branch, x, pieces, thin.drop, thin.site, stream_note());
    }
    template <index Width, class V, class X>
    void start_stream(matrix_view<V> values, matrix_view<X> x) const {
        host::start_stream(values, x, stream_note());
    }
    template <index Width, class X, class O>
    static void add_stream(matrix_view<X> x, matrix_view<O> other) {
        host::add_stream(x, other);
    }
    template <index Width, class X, class O>
    static void take_stream(matrix_view<X> x, matrix_view<O> other) {
        host::take_stream(x, other);
    }
    template <index Width, class X, class Y>
    static void thin(matrix_view<X> x, const branch_thinning& thin, const piece_rows& pieces, matrix_view<Y> y) {
        host::residual_backward(x, y, pieces, thin.drop, thin.site);
    }

    // --- attention, loss: host/cpu_attention.hpp ------------------------------------------------------------------------------------
    [[nodiscard]] static constexpr bytes segment_memory(index /*tokens*/, index max_pieces) {
        return max_pieces * static_cast<bytes>(sizeof(segment));
    }
    static void make_segments(const piece_table& pieces, segment* out) { self_attention_segments(pieces, out); }

    /// Of one group of heads (decoder_shape::head_group). Queries, keys and values are those of such a group, or of all heads; the first
    /// query head's number among all is `first_head`, and `sink` and `d_sink` are all heads'.
    template <class Model>
    [[nodiscard]] static constexpr bytes attention_workspace(index tokens);
    template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S>
    static void attention_forward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q,
                                  matrix_view<Q> k, matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse);
    template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S, class DO, class D, class DSink>
    static void attention_backward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q,
                                   matrix_view<Q> k, matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse,
                                   matrix_view<DO> d_out, matrix_view<D> dq, matrix_view<D> dk, matrix_view<D> dv, DSink* d_sink,
                                   std::byte* workspace);

    template <class Model>
    [[nodiscard]] static constexpr bytes loss_workspace(index tokens) {
        using format = typename Model::template storage<role::activation>;
        return cross_entropy_workspace<format>(chunk<Model>(tokens), Model::shape.vocabulary);
    }
    template <class Model, class X, class W, class Goal, class DX, class DW>
    static void loss(matrix_view<X> x, matrix_view<W> table, const Goal& to, matrix_view<DX> dx, matrix_view<DW> d_table,
                     std::byte* workspace) {
        *to.sums += linear_cross_entropy_gradients<rounding<Model>>(x, table, to.targets, options<Model>(to), chunk<Model>(x.rows), dx, d_table,
                                                               space<Model>(workspace, x.rows));
    }
    template <class Model, class X, class W, class Goal>
    static void loss_only(matrix_view<X> x, matrix_view<W> table, const Goal& to, std::byte* workspace) {
        *to.sums += linear_cross_entropy<rounding<Model>>(x, table, to.targets, options<Model>(to), chunk<Model>(x.rows),
                                                     space<Model>(workspace, x.rows));
    }

    // --- parameters -------------------------------------------------------------------------------------------------------------
    template <class T>
    static void zero(std::span<T> values) {
        for_chunks(values.size(), [&](std::size_t begin, std::size_t count) { std::memset(values.data() + begin, 0, count * sizeof(T)); });
    }
    template <class T>
    static void fill(std::span<T> values, double value) {
        for (T& x : values) x = from_compute<T>(static_cast<compute_t<T>>(value));
    }
    /// Normals of the given deviation; a function of (seed, ordinal) and the element alone.
    template <class T>
    static void fill_normal(std::span<T> values, std::uint64_t seed, std::uint32_t ordinal, double deviation) {
        const philox_key key = key_of({.seed = seed, .step = 0, .layer = ordinal, .site = initial_site});
        for_chunks(values.size(), [&](std::size_t begin, std::size_t count) {
            for (std::size_t i = begin; i < begin + count; i += 4) {  // chunks are multiples of 4
                const normal_block drawn = normals(philox4x32(element_counter(static_cast<index>(i / 4)), key));
                for (std::size_t j = i; j < i + 4 && j < begin + count; ++j) {
                    values[j] = from_compute<T>(static_cast<compute_t<T>>(static_cast<double>(drawn.value[j - i]) * deviation));
                }
            }
        });
    }
    template <class Master, class Weight>
    static void round(std::span<Master> masters, std::span<Weight> weights) {
        for_chunks(masters.size(), [&](std::size_t begin, std::size_t count) {
            for (std::size_t i = begin; i < begin + count; ++i) weights[i] = from_compute<Weight>(masters[i]);
        });
    }
    /// to += from, rounded once.
    template <class From, class To>
    static void add_rounded(std::span<From> from, std::span<To> to) {
        for_chunks(from.size(), [&](std::size_t begin, std::size_t count) {
            for (std::size_t i = begin; i < begin + count; ++i) to[i] = from_compute<To>(to_compute(to[i]) + from[i]);
        });
    }
    template <class T>
    static void sum_of_squares(std::span<T> values, double* out) {
        *out = host::sum_of_squares(values);
    }
    /// *out: the first element that is not finite, or −1.
    template <class T>
    static void first_non_finite(std::span<T> values, index* out) {
        *out = host::first_non_finite(values);
    }
    /// One update of the whole store, by updates[0] where decays[i / 128] is set and by updates[1] elsewhere; nothing where *apply
    /// is 0.
    template <class Master, class Weight, class G, class M>
    static void adamw(std::span<Master> masters, std::span<Weight> weights, std::span<G> gradients, std::span<M> first, std::span<M> second,
                      const std::uint8_t* decays, const adamw_update* updates, const int* apply) {
        if (*apply == 0) return;
        constexpr std::size_t each = 128;
        for (std::size_t begin = 0, end = 0; begin < masters.size(); begin = end) {
            const bool decay = decays[begin / each] != 0;
            for (end = begin + each; end < masters.size() && (decays[end / each] != 0) == decay;) end += each;
            const std::size_t count = (end < masters.size() ? end : masters.size()) - begin;
            const auto part = [&](auto all) { return all.subspan(begin, count); };
            host::adamw_step(part(masters), part(weights), part(gradients), part(first), part(second), updates[decay ? 0 : 1]);
        }
    }
    /// The same of any run of a store, in whichever formats its state is stored; `source` gives the draws of stochastic rounding.
    template <class Master, class Weight, class G, class Moment>
    static void update(const update_run<Master, Weight, G, Moment>& run, const adamw_update* updates, const rounding_source& source,
                       const int* apply);

private:
    [[nodiscard]] index* stream_note() const { return notes_ == nullptr ? nullptr : &notes_->stream; }

    bad_ids* notes_ = nullptr;
    static constexpr std::uint32_t initial_site = 0x696e6974;  // apart from every draw_site

    /// What products round their operands to: nothing, unless the format is narrower than its storage.
    template <class Model>
    using rounding = std::conditional_t<std::is_same_v<typename Model::precision::operand, tf32_format>, tf32_format, void>;

    template <class Model>
    [[nodiscard]] static constexpr index chunk(index tokens) {
        return Model::shape.loss_chunk < tokens ? Model::shape.loss_chunk : tokens;
    }
    template <class Model>
    [[nodiscard]] static std::span<std::byte> space(std::byte* workspace, index tokens) {
        return {workspace, static_cast<std::size_t>(loss_workspace<Model>(tokens))};
    }
    template <class Model, class Goal>
    [[nodiscard]] static cross_entropy_options options(const Goal& to) {
        return {.smoothing = Model::shape.label_smoothing, .scale = to.scale != nullptr ? static_cast<double>(*to.scale) : 1.0,
                .token_weights = to.target_weights, .token_losses = to.token_losses, .first_token = to.first};
    }
    template <class F>
    static void for_chunks(std::size_t size, F&& f) {
        constexpr std::size_t each = std::size_t{1} << 16;
        parallel_for(ceil_div(static_cast<index>(size), static_cast<index>(each)), [&](index i) {
            const std::size_t begin = static_cast<std::size_t>(i) * each;
            f(begin, size - begin < each ? size - begin : each);
        });
    }
};

}  // namespace longspan::host

#include <longspan/host/detail/cpu_attention.hpp>
#include <longspan/host/detail/cpu_update.hpp>
