// SPDX-License-Identifier: Apache-2.0
//
// A block of a decoder: the attention branch, then the MLP branch, on one residual stream. What it saves is what its branches
// save and the stream between them: [tokens, width] twice or more of it attention's, the rest mostly the MLP's. The unit which
// checkpointing policies keep, drop and recompute, whole or in part, and one bucket of the parameter store.
#pragma once

#include <array>

#include <longspan/layer/attention.hpp>
#include <longspan/layer/mlp.hpp>

namespace longspan {

/// Sizes and saved tensors of a block, the same for every pattern.
template <class Model>
struct block_tables {
    using attention = attention_tables<Model>;
    using mlp = mlp_layer<Model>;
    using precision = typename Model::precision;

    struct middle_table {
        static constexpr std::array list{tensor{"stream between branches", role::residual, Model::shape.width, cost::product}};
    };

    /// What one block keeps from its forward to its backward: all of it, or what is worth `from` and more, and the rest for less long.
    struct saved {
        typename attention::saved attended;
        tensors<precision, middle_table> middle;
        typename mlp::saved expanded;
        saved() = default;
        saved(arena& memory, index tokens) { hold(memory, tokens); }
        void hold(arena& memory, index tokens, cost from = cost::pass) {
            drop();
            attended.hold(memory, tokens, from);
            middle.hold(memory, tokens, from);
            expanded.hold(memory, tokens, from);
        }
        void hold_rest() {
            drop_rest();
            attended.hold_rest();
            middle.hold_rest();
            expanded.hold_rest();
        }
        void drop_rest() noexcept {
            expanded.drop_rest();
            middle.drop_rest();
            attended.drop_rest();
        }
        void drop() noexcept {
            drop_rest();
            expanded.drop();
            middle.drop();
            attended.drop();
        }
        /// Calls f(here, there, bytes) for every tensor that is kept, of both.
        template <class F>
        void with_kept_of(const saved& there, F&& f) const {
            attended.with_kept_of(there.attended, f);
            middle.with_kept_of(there.middle, f);
            expanded.with_kept_of(there.expanded, f);
        }
    };
    [[nodiscard]] static constexpr layout saved_layout(index tokens) {
        return together("saved by a block", layout_of<precision, typename attention::saved_table>("attention", tokens),
                        layout_of<precision, middle_table>("", tokens), layout_of<precision, typename mlp::saved_table>("mlp", tokens));
    }

    /// Floating-point operations, per token, of making the tensors of one cost of one block; of attention with `keys` keys a query.
    [[nodiscard]] static constexpr double flops(cost made, double keys) {
        constexpr auto shape = Model::shape;
        const auto product = [](index in, index out) { return 2.0 * static_cast<double>(in) * static_cast<double>(out); };
        switch (made) {
            case cost::pass: return 0;
            case cost::expansion: return product(shape.width, mlp::first);
            case cost::product: return product(shape.width, attention::projected) + product(attention::query_width, shape.width);
            case cost::attention: return 4.0 * static_cast<double>(attention::query_width) * keys;
            case cost::output: return product(shape.hidden, shape.width);
        }
        return 0;
    }

    /// Elements of one block's bucket; the attention table lies first, the MLP's behind it.
    static constexpr index mlp_offset = table_size<typename attention::parameter_table>();
    static constexpr index size = mlp_offset + table_size<typename mlp::parameter_table>();
    static constexpr index parameter_count =
        table_parameters<typename attention::parameter_table>() + table_parameters<typename mlp::parameter_table>();

    /// Calls f(prefix, parameter, element offset within the bucket) for each parameter that exists.
    template <class F>
    static constexpr void for_each_parameter(F&& f) {
        for (std::size_t i = 0; i < attention::parameter_table::list.size(); ++i) {
            f("attention.", attention::parameter_table::list[i], attention::weights::offset(i));
        }
        for (std::size_t i = 0; i < mlp::parameter_table::list.size(); ++i) {
            f("mlp.", mlp::parameter_table::list[i], mlp_offset + mlp::weights::offset(i));
        }
    }
};

template <class Model, class Pattern>
struct decoder_block : block_tables<Model> {
    using tables = block_tables<Model>;
    using attention = attention_layer<Model, Pattern>;
    using mlp = mlp_layer<Model>;
    using typename tables::saved;
    using weight = typename Model::template storage<role::weight>;
    using gradient = typename Model::template storage<role::parameter_gradient>;

    template <class Backend>
    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return either("block forward", attention::template forward_scratch<Backend>(tokens), mlp::forward_scratch(tokens));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) {
        return either("block backward", attention::template backward_scratch<Backend>(tokens), mlp::backward_scratch(tokens));
    }

    /// y = block(x), with the block's parameters at `bucket`. Without y only what the backward needs is computed, and of that only
    /// what is worth less than `From`: the others are in `kept` already.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, const weight* bucket, const values_of<Pattern>& arguments,
                        typename attention::residual_in x, typename attention::residual_out* y, const saved& kept) {
        auto middle = kept.middle.template get<"stream between branches">();
        constexpr bool joins = tables::middle_table::list[0].worth < From;
        attention::template forward<From>(c, layer, typename attention::weights(bucket), arguments, x, joins ? &middle : nullptr, kept.attended);
        mlp::template forward<From>(c, layer, typename mlp::weights(bucket + tables::mlp_offset), middle, y, kept.expanded);
    }

    /// dx: the gradient with respect to the block's output on entry, to its input on return; parameters' gradients are added to.
    template <class Context>
    static void backward(Context& c, index layer, const weight* bucket, gradient* gradients,
                         const values_of<Pattern>& arguments, typename attention::residual_in x, const saved& kept,
                         typename attention::gradient_view dx) {
        const auto middle = kept.middle.template get<"stream between branches">();
        mlp::backward(c, layer, typename mlp::weights(bucket + tables::mlp_offset),
                      typename mlp::gradients(gradients + tables::mlp_offset), middle, kept.expanded, dx);
        attention::backward(c, layer, typename attention::weights(bucket), typename attention::gradients(gradients), arguments, x,
                            kept.attended, dx);
    }
};

}  // namespace longspan
