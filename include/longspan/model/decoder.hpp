// SPDX-License-Identifier: Apache-2.0
//
// A decoder as a stack of blocks over one backend: what checkpointing policies run. Each block has its own bucket of parameters
// and its own pattern, layer l taking the l-th of the config's stack of patterns, round and round.
#pragma once

#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include <longspan/checkpoint/policy.hpp>
#include <longspan/layer/block.hpp>
#include <longspan/layer/head.hpp>
#include <longspan/layer/two_stream_block.hpp>
#include <longspan/model/gradient_room.hpp>
#include <longspan/model/parameter_layout.hpp>
#include <longspan/pattern/stack.hpp>

namespace longspan {

namespace detail {

template <class Patterns, class Indices>
struct arguments_of_stack;
template <class Patterns, std::size_t... I>
struct arguments_of_stack<Patterns, std::index_sequence<I...>> {
    template <std::size_t J>
    using one = typename pattern_at<Patterns, static_cast<index>(J)>::arguments;
    using type = std::tuple<one<I>...>;
    using values = std::tuple<pattern_values<one<I>>...>;
    static constexpr bytes size(bytes alignment) {
        return (bytes{0} + ... + (std::is_empty_v<one<I>> ? 0 : round_up(static_cast<bytes>(sizeof(one<I>)), alignment)));
    }
};
template <class Patterns>
using arguments_of = arguments_of_stack<Patterns, std::make_index_sequence<static_cast<std::size_t>(pattern_count<Patterns>)>>;

}  // namespace detail

/// The run-time values of every pattern of a stack, in order; empty structs for closed-form patterns.
template <class Patterns>
using stack_arguments = typename detail::arguments_of<Patterns>::type;

/// The same as a pass takes them: as values, or where each stands in the backend's memory.
template <class Patterns>
using stack_values = typename detail::arguments_of<Patterns>::values;

/// The block of a decoder's layers, on one stream or on two.
template <class Model, class Pattern>
using block_of = std::conditional_t<Model::shape.streams() == 2, two_stream_block<Model, Pattern>, decoder_block<Model, Pattern>>;

/// The bytes that a decoder needs beyond its parameters.
template <class Model, class Patterns, class Backend>
struct decoder_memory {
    using precision = typename Model::precision;
    static constexpr auto shape = Model::shape;
    static constexpr bool rotary = shape.positions == position_kind::rotary;

    struct stream_table {
        static constexpr std::array list{tensor{"residual stream", role::residual, shape.streams() * shape.width}};
    };
    struct gradient_table {
        static constexpr std::array list{tensor{"gradient stream", role::gradient, shape.streams() * shape.width}};
    };
    /// What two streams begin with. Less than a block saves, so that only plans which keep nothing name it.
    struct start_table {
        static constexpr std::array list{tensor{"embedded", role::activation, shape.width}};
    };
    struct angle_table {
        static constexpr std::array list{tensor{"rotary cosines", role::statistic, rotary ? shape.head() / 2 : 0},
                                         tensor{"rotary sines", role::statistic, rotary ? shape.head() / 2 : 0}};
    };

    /// Of the patterns' run-time values, where the backend has memory of its own: ops find them at one place, whatever they are.
    [[nodiscard]] static constexpr bytes argument_memory() {
        return Backend::in_host_memory ? 0 : detail::arguments_of<Patterns>::size(Backend::alignment);
    }
    /// The batch itself where the backend has memory of its own, and what is made of it once for a micro-batch.
    [[nodiscard]] static constexpr layout tables(index tokens, index max_pieces) {
        return together("tables of the batch", region("batch", Backend::batch_memory(tokens, max_pieces)),
                        region("arguments of patterns", argument_memory()),
                        region("workspace of ops", Backend::template workspace<Model>(tokens)), layout_of<precision, angle_table>("", tokens),
                        region("attention segments", Backend::segment_memory(tokens, max_pieces)));
    }
    [[nodiscard]] static constexpr layout gradient_stream(index tokens) { return layout_of<precision, gradient_table>("", tokens); }

    /// What the checkpointing policy places.
    [[nodiscard]] static constexpr stack_bytes stack(index tokens) {
        // The scratch of a block does not depend on its pattern, so the first stands for all.
        using block = decoder_block<Model, pattern_at<Patterns, 0>>;
        stack_bytes sizes{.blocks = shape.layers,
                          .stream = tokens * shape.streams() * shape.width * bytes_of<precision, role::residual>,
                          .saved = block_tables<Model>::saved_layout(tokens),
                          .forward_scratch = block::template forward_scratch<Backend>(tokens),
                          .backward_scratch = block::template backward_scratch<Backend>(tokens),
                          .turn = head_layer<Model>::template turn_scratch<Backend>(tokens)};
        if constexpr (shape.streams() == 2) {
            sizes.start = layout_of<precision, start_table>("", tokens);
            using paired = two_stream_block<Model, pattern_at<Patterns, 0>>;
            sizes.attention = {paired::template add_half_scratch<block_half::attention, Backend>(tokens),
                               paired::template reverse_half_scratch<block_half::attention, Backend>(tokens)};
            sizes.mlp = {paired::template add_half_scratch<block_half::mlp, Backend>(tokens),
                         paired::template reverse_half_scratch<block_half::mlp, Backend>(tokens)};
        }
        return sizes;
    }
    /// What one forward pass without gradients needs.
    [[nodiscard]] static constexpr layout evaluation(index tokens) {
        const stack_bytes s = stack(tokens);
        if (shape.streams() == 2) {  // in place, half a block at a time
            return together("evaluation", region("", s.stream),
                            either("", s.start, s.attention.forward, s.mlp.forward, head_layer<Model>::template evaluation_scratch<Backend>(tokens)));
        }
        return together("evaluation", region("", s.stream).repeated(2),
                        either("", together("", s.saved, s.forward_scratch), head_layer<Model>::template evaluation_scratch<Backend>(tokens)));
    }
};

/// The blocks of a decoder, for one micro-batch, with their parameters where Layout says and their gradients where Gradients does.
template <class Model, class Patterns, class Context, class Layout = parameter_layout<Model>,
          class Gradients = whole_gradients<Layout, typename Model::template storage<role::parameter_gradient>>>
class decoder_stack {
    using layout_type = Layout;
    using memory = decoder_memory<Model, Patterns, typename Context::backend>;
    using weight = typename Model::template storage<role::weight>;
    static constexpr bool paired = Model::shape.streams() == 2;
    static constexpr index width = Model::shape.width;

public:
    static constexpr index blocks = Model::shape.layers;
    using stream = tensors<typename Model::precision, typename memory::stream_table>;
    using saved = typename block_tables<Model>::saved;

    /// `weights` is a whole store; gradients and dx may be absent for a forward alone.
    decoder_stack(Context& context, const weight* weights, Gradients gradients, const stack_values<Patterns>& arguments,
                  typename Model::template view<role::gradient> dx)
        : context_(context), weights_(weights), gradients_(gradients), arguments_(arguments), dx_(dx) {}

    [[nodiscard]] index tokens() const { return context_.tokens; }

    /// The stream, or the two.
    [[nodiscard]] static auto view(stream& x) { return parts(x.template get<"residual stream">()); }

    /// Begins the stream with what f writes into a view.
    template <class F>
    void start(stream& x, F&& f) {
        if constexpr (paired) {
            tensors<typename Model::precision, typename memory::start_table> scratch(*context_.memory, context_.tokens);
            const auto embedded = scratch.template get<"embedded">();
            f(embedded);
            const auto both = view(x);
            context_.ops.template start_stream<width>(embedded, both.first);
            context_.ops.copy(both.first, both.second);
        } else {
            f(view(x));
        }
    }
    /// Returns f(out), where out is what leaves the stack: the stream, or the sum of the two. Two are as they were before only behind
    /// `part`.
    template <class F>
    decltype(auto) join(stream& x, F&& f) {
        if constexpr (paired) {
            context_.ops.template add_stream<width>(view(x).first, view(x).second);
            return f(view(x).first);
        } else {
            return f(view(x));
        }
    }
    void part(stream& x) {
        if constexpr (paired) context_.ops.template take_stream<width>(view(x).first, view(x).second);
    }
    /// Calls f(out, gradient of out): the turn from forward to backward.
    template <class F>
    void turn(stream& x, F&& f) {
        if constexpr (paired) {
            join(x, [&](auto out) { f(out, parts(dx_).first); });
            part(x);
            context_.ops.copy(parts(dx_).first, parts(dx_).second);
        } else {
            f(view(x), dx_);
        }
    }
    /// The gradient with respect to what `start` was given, once block 0 has been run backward.
    [[nodiscard]] auto start_gradient() {
        if constexpr (paired) {
            const auto d = parts(dx_);
            context_.ops.template add_branch<width>(d.first, d.second, context_.ops.thinning(context_.keys, 0, 0, 0, 0), context_.pieces, d.first);
            return d.first;
        } else {
            return dx_;
        }
    }

    /// Makes what block b saves, except what is worth `From` or more, and, where y is asked for, the stream that leaves it.
    template <cost From = cost::output>
    void forward(index b, stream& x, stream* y, saved& kept) {
        auto out = y ? view(*y) : decltype(view(x)){};
        at(b, [&]<std::size_t I>() {
            using block = block_of<Model, pattern_at<Patterns, static_cast<index>(I)>>;
            block::template forward<From>(context_, b, weights_ + layout_type::block_offset(b), std::get<I>(arguments_), view(x), y ? &out : nullptr, kept);
        });
    }

    void backward(index b, stream& x, saved& kept) {
        at(b, [&]<std::size_t I>() {
            using block = block_of<Model, pattern_at<Patterns, static_cast<index>(I)>>;
            block::backward(context_, b, weights_ + layout_type::block_offset(b), gradients_.begin(context_.ops, b + 1),
                            std::get<I>(arguments_), view(x), kept, parts(dx_));
        });
        gradients_.end(context_.ops, b + 1);
    }

    /// Half of block b in place, where there are two streams.
    template <block_half Half>
    void add_half(index b, stream& x) {
        at(b, [&]<std::size_t I>() {
            two_stream_block<Model, pattern_at<Patterns, static_cast<index>(I)>>::template add_half<Half>(
                context_, b, weights_ + layout_type::block_offset(b), std::get<I>(arguments_), view(x));
        });
    }
    /// And back, together with its backward; the MLP's half is the first.
    template <block_half Half>
    void reverse_half(index b, stream& x) {
        if constexpr (Half == block_half::mlp) reversed_ = gradients_.begin(context_.ops, b + 1);
        at(b, [&]<std::size_t I>() {
            two_stream_block<Model, pattern_at<Patterns, static_cast<index>(I)>>::template reverse_half<Half>(
                context_, b, weights_ + layout_type::block_offset(b), reversed_, std::get<I>(arguments_), view(x),
                parts(dx_));
        });
        if constexpr (Half == block_half::attention) gradients_.end(context_.ops, b + 1);
    }

    /// Streams and saved tensors leave for pinned memory and return: memory/transfer.hpp.
    [[nodiscard]] arena& pinned() { return *context_.pinned; }
    template <class Regions>
    void leave(index number, const Regions& here, const Regions& away) {
        context_.ops.leave(number, [&](auto&& copy) { here.with_kept_of(away, copy); });
    }
    template <class Regions>
    void fetch(index number, const Regions& here, const Regions& away) {
        context_.ops.fetch(number, [&](auto&& copy) { here.with_kept_of(away, copy); });
    }
    void wait(index number) { context_.ops.wait(number); }

private:
    /// The two sides of a matrix that holds both streams.
    template <class View>
    [[nodiscard]] static auto parts(View all) {
        if constexpr (paired) return stream_pair<View>::of(all);
        else return all;
    }
    /// Calls f with the number of layer b's pattern.
    template <class F>
    static void at(index b, F&& f) {
        constexpr auto count = static_cast<std::size_t>(pattern_count<Patterns>);
        const auto which = static_cast<std::size_t>(b) % count;
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            ((which == I ? f.template operator()<I>() : void()), ...);
        }(std::make_index_sequence<count>{});
    }

    Context& context_;
    const weight* weights_;
    Gradients gradients_;
    typename Model::template storage<role::parameter_gradient>* reversed_ = nullptr;  // of the block whose halves go back
    const stack_values<Patterns>& arguments_;
    typename Model::template view<role::gradient> dx_;
};

}  // namespace longspan
