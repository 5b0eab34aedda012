// SPDX-License-Identifier: Apache-2.0
//
// The attention branch: y = x + Wₒ · attention(rotate(norm(x) · W_qkv)), for any pattern of the algebra, with grouped heads,
// rotary or ALiBi positions, QK-norm, soft-cap, a learned sink per head and dropout on the map, as the shape says.
//
// Saved (layer/attention_tables.hpp): rotated queries and keys overwrite the projection; with QK-norm the raw projection is kept and the
// rotated pair is made again in the backward. Each saved tensor says what it takes to make it again, and `forward<From>` makes only what
// is worth less than From.
//
// In passing, with t tokens, n = shape.token_chunk and G groups of heads (shape.head_group), two streams going back: one group's projection
// and output t·(h + 2k + h)·d/G, as much of gradients, and n·width. All groups one after another give what one with all heads gives, but
// that the stream is rounded once a group.
// References: Vaswani et al., arXiv:1706.03762; Ainslie et al. (grouped queries), arXiv:2305.13245; Dao (tiling by
// log-sum-exp), arXiv:2307.08691; Jacobs et al. (attention by groups of heads), arXiv:2309.14509.
#pragma once

#include <longspan/layer/attention_group.hpp>

namespace longspan {

template <class Model, class Pattern>
struct attention_layer : attention_group<Model, Pattern> {
    using one = attention_group<Model, Pattern>;
    using tables = attention_tables<Model>;
    using typename tables::branch, typename tables::norm, typename tables::precision;
    using typename tables::gradients, typename tables::saved, typename tables::weights;
    using typename one::residual_in, typename one::residual_out, typename one::gradient_in, typename one::gradient_view;
    using tables::shape, tables::groups;

    template <class Backend>
    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return one::forward_scratch(tokens);
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) {
        return together("", layout_of<precision, typename tables::normed_gradient_sum_table>("", tokens),
                        one::template backward_scratch<Backend>(tokens));
    }
    /// Of `add` and of `reverse`, which keep no more than one group at a time.
    [[nodiscard]] static constexpr layout add_scratch(index tokens) {
        return together("attention forward", saved_in_passing(tokens), one::forward_scratch(tokens));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout reverse_scratch(index tokens) {
        return together("attention made again, backward", saved_in_passing(tokens),
                        either("", one::forward_scratch(tokens), one::template backward_scratch<Backend>(tokens)));
    }

    /// y = x + branch(x). Without y only what the backward needs is computed. Of the saved tensors those that are worth `From` or more
    /// are there already and are read, not made; the same ops on the same shapes make the others, so the bits are the same.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, weights w, const values_of<Pattern>& arguments, residual_in x,
                        residual_out* y, const saved& kept) {
        forward_onto<From>(c, layer, w, arguments, x, x, y, kept);
    }
    /// y = onto + branch(x), where x and y may be two streams.
    template <cost From = cost::output, class Context>
    static void forward_onto(Context& c, index layer, weights w, const values_of<Pattern>& arguments, residual_in x, residual_in onto,
                             residual_out* y, const saved& kept) {
        for (index i = 0; i < groups; ++i) {
            one::template forward<From, joining::add>(c, layer, i, w, arguments, x, i > 0 && y ? residual_in(*y) : onto, y, of(kept, i));
        }
    }

    /// dx: the gradient with respect to y on entry, with respect to x on return.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, const values_of<Pattern>& arguments,
                         residual_in x, const saved& kept, gradient_view dx) {
        backward(c, layer, w, g, arguments, x, kept, dx, dx);
    }
    /// dx += the gradient through the branch, of which dy is the gradient; dy may be dx on one stream.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, const values_of<Pattern>& arguments, residual_in x,
                         const saved& kept, gradient_in dy, gradient_view dx) {
        const tensors<precision, typename tables::normed_gradient_sum_table> sum(*c.memory, c.tokens);
        const auto d_normed = sum.template get<"d normed of all heads">();
        for (index i = 0; i < groups; ++i) one::backward(c, layer, i, w, g, arguments, x, of(kept, i), dy, d_normed, dx);
        if constexpr (tables::sums_first) norm::template backward<true>(c, w, g, x, d_normed, kept, dx);
    }

    /// y += branch(x), of two streams.
    template <class Context>
    static void add(Context& c, index layer, weights w, const values_of<Pattern>& arguments, residual_in x, residual_out y) {
        const typename tables::saved_of_group passing(*c.memory, c.tokens);
        for (index i = 0; i < groups; ++i) one::template forward<cost::output, joining::add>(c, layer, i, w, arguments, x, y, &y, of(passing, 0));
    }
    /// y -= branch(x), to the bit, and dx += the gradient through the branch of which dy is the gradient: a group's tensors are made once for
    /// both.
    template <class Context>
    static void reverse(Context& c, index layer, weights w, gradients g, const values_of<Pattern>& arguments, residual_in x, residual_out y,
                        gradient_in dy, gradient_view dx) {
        const typename tables::saved_of_group passing(*c.memory, c.tokens);
        for (index i = 0; i < groups; ++i) {
            one::template forward<cost::output, joining::take>(c, layer, i, w, arguments, x, y, &y, of(passing, 0));
            one::backward(c, layer, i, w, g, arguments, x, of(passing, 0), dy, {}, dx);
        }
    }

private:
    [[nodiscard]] static constexpr layout saved_in_passing(index tokens) {
        return layout_of<precision, typename tables::template saved_of<1>>("saved", tokens);
    }
    template <class Saved>
    [[nodiscard]] static auto of(const Saved& all, index number) {
        return typename tables::template kept_of<Saved>{all, number};
    }
};

}  // namespace longspan
