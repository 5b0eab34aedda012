// SPDX-License-Identifier: Apache-2.0
//
// A block of a decoder on two residual streams, with the parameters of a block of one (layer/block.hpp):
//
//     y₁ = x₁ + attention(norm(x₂))        y₂ = x₂ + mlp(norm(y₁))
//
// Streams are in fixed point and a branch is rounded to it once, so either half can be taken off again to the bit; gradients flow
// straight through the rounding. Back: dy₁ += mlp's gradient of dy₂, then dx₂ = dy₂ + attention's gradient of dy₁, in place.
//
// Saved: what a block of one stream saves, the first stream between the halves included.
// References: Gomez et al., arXiv:1707.04585; Mangalam et al., arXiv:2302.04869.
#pragma once

#include <type_traits>

#include <longspan/layer/block.hpp>

namespace longspan {

/// Both streams, or their gradients.
template <class View>
struct stream_pair {
    View first, second;

    /// Of the two side by side in one matrix.
    [[nodiscard]] static constexpr stream_pair of(View both) {
        const index width = both.columns / 2;
        return {both.column_range(0, width), both.column_range(width, width)};
    }
};

template <class Model, class Pattern>
struct two_stream_block : decoder_block<Model, Pattern> {
    using tables = block_tables<Model>;
    using base = decoder_block<Model, Pattern>;
    using typename base::attention, typename base::mlp, typename base::saved, typename base::weight, typename base::gradient;
    using arguments_type = values_of<Pattern>;
    using streams = stream_pair<typename attention::residual_out>;
    using gradients_pair = stream_pair<typename attention::gradient_view>;

    /// y = block(x), as decoder_block::forward.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, const weight* bucket, const arguments_type& arguments, streams x, streams* y, const saved& kept) {
        auto middle = kept.middle.template get<"stream between branches">();
        constexpr bool joins = tables::middle_table::list[0].worth < From;
        attention::template forward_onto<From>(c, layer, typename attention::weights(bucket), arguments, x.second, x.first, joins ? &middle : nullptr,
                                               kept.attended);
        mlp::template forward_onto<From>(c, layer, mlp_weights(bucket), middle, x.second, y ? &y->second : nullptr, kept.expanded);
        if (y) c.ops.copy(middle, y->first);
    }

    /// dx: the gradients with respect to the block's outputs on entry, to its inputs on return; parameters' gradients are added to.
    template <class Context>
    static void backward(Context& c, index layer, const weight* bucket, gradient* gradients, const arguments_type& arguments, streams x,
                         const saved& kept, gradients_pair dx) {
        mlp::backward(c, layer, mlp_weights(bucket), typename mlp::gradients(gradients + tables::mlp_offset),
                      kept.middle.template get<"stream between branches">(), kept.expanded, dx.second, dx.first);
        attention::backward(c, layer, typename attention::weights(bucket), typename attention::gradients(gradients), arguments, x.second,
                            kept.attended, dx.first, dx.second);
    }

    /// Half a block in place, forward.
    template <block_half Half, class Context>
    static void add_half(Context& c, index layer, const weight* bucket, const arguments_type& arguments, streams x) {
        if constexpr (Half == block_half::attention) {
            attention::add(c, layer, typename attention::weights(bucket), arguments, x.second, x.first);
        } else {
            mlp::add(c, layer, mlp_weights(bucket), x.first, x.second);
        }
    }
    /// And back: the streams are again what they were before it, dx the gradients with respect to those.
    template <block_half Half, class Context>
    static void reverse_half(Context& c, index layer, const weight* bucket, gradient* gradients, const arguments_type& arguments, streams x,
                             gradients_pair dx) {
        if constexpr (Half == block_half::attention) {
            attention::reverse(c, layer, typename attention::weights(bucket), typename attention::gradients(gradients), arguments, x.second, x.first,
                               dx.first, dx.second);
        } else {
            mlp::reverse(c, layer, mlp_weights(bucket), typename mlp::gradients(gradients + tables::mlp_offset), x.first, x.second, dx.second,
                         dx.first);
        }
    }
    /// What they take.
    template <block_half Half, class Backend>
    [[nodiscard]] static constexpr layout add_half_scratch(index tokens) {
        if constexpr (Half == block_half::mlp) return mlp::add_scratch(tokens);
        else return attention::add_scratch(tokens);
    }
    template <block_half Half, class Backend>
    [[nodiscard]] static constexpr layout reverse_half_scratch(index tokens) {
        if constexpr (Half == block_half::mlp) return mlp::reverse_scratch(tokens);
        else return attention::template reverse_scratch<Backend>(tokens);
    }

private:
    [[nodiscard]] static auto mlp_weights(const weight* bucket) { return typename mlp::weights(bucket + tables::mlp_offset); }
};

}  // namespace longspan
