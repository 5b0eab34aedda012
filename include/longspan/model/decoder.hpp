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
#include <longspan/model/parameter_layout.hpp>
#include <longspan/pattern/stack.hpp>

namespace longspan {

namespace detail {

template <class Patterns, class Indices>
struct arguments_of_stack;
template <class Patterns, std::size_t... I>
struct arguments_of_stack<Patterns, std::index_sequence<I...>> {
    using type = std::tuple<typename pattern_at<Patterns, static_cast<index>(I)>::arguments...>;
};

}  // namespace detail

/// The run-time values of every pattern of a stack, in order; empty structs for closed-form patterns.
template <class Patterns>
using stack_arguments =
    typename detail::arguments_of_stack<Patterns, std::make_index_sequence<static_cast<std::size_t>(pattern_count<Patterns>)>>::type;

/// The bytes that a decoder needs beyond its parameters.
template <class Model, class Patterns, class Backend>
struct decoder_memory {
    using precision = typename Model::precision;
    static constexpr auto shape = Model::shape;
    static constexpr bool rotary = shape.positions == position_kind::rotary;

    struct stream_table {
        static constexpr std::array list{tensor{"residual stream", role::residual, shape.width}};
    };
    struct gradient_table {
        static constexpr std::array list{tensor{"gradient stream", role::gradient, shape.width}};
    };
    struct angle_table {
        static constexpr std::array list{tensor{"rotary cosines", role::statistic, rotary ? shape.head() / 2 : 0},
                                         tensor{"rotary sines", role::statistic, rotary ? shape.head() / 2 : 0}};
    };

    /// The batch itself where the backend has memory of its own, and what is made of it once for a micro-batch.
    [[nodiscard]] static constexpr layout tables(index tokens, index max_pieces) {
        return together("tables of the batch", region("batch", Backend::batch_memory(tokens, max_pieces)),
                        region("workspace of ops", Backend::template workspace<Model>(tokens)), layout_of<precision, angle_table>("", tokens),
                        region("attention segments", Backend::segment_memory(tokens, max_pieces)));
    }
    [[nodiscard]] static constexpr layout gradient_stream(index tokens) { return layout_of<precision, gradient_table>("", tokens); }

    /// What the checkpointing policy places.
    [[nodiscard]] static constexpr stack_bytes stack(index tokens) {
        // The scratch of a block does not depend on its pattern, so the first stands for all.
        using block = decoder_block<Model, pattern_at<Patterns, 0>>;
        return {.blocks = shape.layers,
                .stream = tokens * shape.width * bytes_of<precision, role::residual>,
                .saved = block_tables<Model>::saved_layout(tokens),
                .forward_scratch = block::template forward_scratch<Backend>(tokens),
                .backward_scratch = block::template backward_scratch<Backend>(tokens),
                .turn = head_layer<Model>::template turn_scratch<Backend>(tokens)};
    }
    /// What one forward pass without gradients needs.
    [[nodiscard]] static constexpr layout evaluation(index tokens) {
        const stack_bytes s = stack(tokens);
        return together("evaluation", region("", s.stream).repeated(2),
                        either("", together("", s.saved, s.forward_scratch), head_layer<Model>::template evaluation_scratch<Backend>(tokens)));
    }
};

/// The blocks of a decoder, for one micro-batch.
template <class Model, class Patterns, class Context>
class decoder_stack {
    using layout_type = parameter_layout<Model>;
    using memory = decoder_memory<Model, Patterns, typename Context::backend>;
    using weight = typename Model::template storage<role::weight>;
    using gradient = typename Model::template storage<role::parameter_gradient>;

public:
    static constexpr index blocks = Model::shape.layers;
    using stream = tensors<typename Model::precision, typename memory::stream_table>;
    using saved = typename block_tables<Model>::saved;

    /// `weights` and `gradients` are whole stores; gradients and dx may be absent for a forward alone.
    decoder_stack(Context& context, const weight* weights, gradient* gradients, const stack_arguments<Patterns>& arguments,
                  typename Model::template view<role::gradient> dx)
        : context_(context), weights_(weights), gradients_(gradients), arguments_(arguments), dx_(dx) {}

    [[nodiscard]] index tokens() const { return context_.tokens; }

    [[nodiscard]] static auto view(stream& x) { return x.template get<"residual stream">(); }

    /// Makes what block b saves, except what is worth `From` or more, and, where y is asked for, the stream that leaves it.
    template <cost From = cost::output>
    void forward(index b, stream& x, stream* y, saved& kept) {
        auto out = y ? view(*y) : decltype(view(x)){};
        at(b, [&]<std::size_t I>() {
            using block = decoder_block<Model, pattern_at<Patterns, static_cast<index>(I)>>;
            block::template forward<From>(context_, b, weights_ + layout_type::block_offset(b), std::get<I>(arguments_), view(x), y ? &out : nullptr, kept);
        });
    }

    void backward(index b, stream& x, saved& kept) {
        at(b, [&]<std::size_t I>() {
            using block = decoder_block<Model, pattern_at<Patterns, static_cast<index>(I)>>;
            block::backward(context_, b, weights_ + layout_type::block_offset(b), gradients_ + layout_type::block_offset(b),
                            std::get<I>(arguments_), view(x), kept, dx_);
        });
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
    gradient* gradients_;
    const stack_arguments<Patterns>& arguments_;
    typename Model::template view<role::gradient> dx_;
};

}  // namespace longspan
