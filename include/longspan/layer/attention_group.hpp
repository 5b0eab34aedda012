// SPDX-License-Identifier: Apache-2.0
//
// One group of attention's heads, forward and backward: their share of the projection, attention, and their share of the branch,
//
//     y = onto + attended_g · W_o,gᵀ,        dx += norm's gradient of d qkv_g · W_qkv,g,
//
// so that a branch is the sum of its groups and only one group's tensors need exist at once. A group's three runs of rows of W_qkv are
// gathered first: one product with all its columns instead of three, and one rounding of its sums.
// Rows are taken shape.token_chunk at a time; attention itself takes all of them. Heads keep their numbers in the whole model: ALiBi's
// slopes, sinks and the draws of dropout are what they would be without groups.
#pragma once

#include <span>

#include <longspan/core/normed_heads.hpp>
#include <longspan/layer/attention_tables.hpp>
#include <longspan/layer/token_chunks.hpp>
#include <longspan/pattern/pattern.hpp>

namespace longspan {

template <class Model, class Pattern>
struct attention_group : attention_tables<Model> {
    using tables = attention_tables<Model>;
    using typename tables::branch, typename tables::norm, typename tables::precision, typename tables::group;
    using typename tables::gradients, typename tables::weights;
    using tables::shape, tables::width;
    using residual_in = typename Model::template const_view<role::residual>;
    using residual_out = typename Model::template view<role::residual>;
    using gradient_in = typename Model::template const_view<role::gradient>;
    using gradient_view = typename Model::template view<role::gradient>;
    template <class Table>
    using scratch_of = tensors<precision, Table>;

    /// Makes of group `number` what is worth less than From, and adds its branch to `onto`, or takes it off, where y is asked for.
    template <cost From, joining Way, class Context, class Kept>
    static void forward(Context& c, index layer, index number, weights w, const values_of<Pattern>& arguments, residual_in x, residual_in onto,
                        residual_out* y, const Kept& kept) {
        if constexpr (cost::product < From) project(c, number, w, x, kept);
        if constexpr (cost::attention < From) {
            const scratch_of<typename tables::turned_table> scratch(*c.memory, c.tokens);
            const auto qk = turn(c, w, kept, scratch);
            c.ops.template attention_forward<Model, Pattern>(c, layer, number * group::heads, arguments, qk.column_range(0, group::query_width),
                                                             qk.column_range(group::query_width, group::key_width),
                                                             kept.template get<"qkv">().column_range(group::turned, group::key_width),
                                                             w.template get<"sink">().data, kept.template get<"attended">(),
                                                             kept.template get<"log-sum-exp">());
        }
        if (!y) return;
        const scratch_of<typename tables::branch_table> scratch(*c.memory, shape.chunk(c.tokens));
        for_chunks(c, [&](index begin, index count) {
            const auto rows = [&](auto view) { return view.row_range(begin, count); };
            branch::template forward<Way>(c, layer, draw_site::attention_branch, begin, rows(onto), rows(kept.template get<"attended">()),
                                          columns_of(w, number), number == 0 ? w.template get<"out.bias">().data : nullptr,
                                          scratch.template get<"branch">().row_range(0, count), rows(*y));
        });
    }

    /// dx += the gradient through the group's branch, of which dy is the gradient; with `sums_first` it is left in d_normed instead.
    template <class Context, class Kept>
    static void backward(Context& c, index layer, index number, weights w, gradients g, const values_of<Pattern>& arguments, residual_in x,
                         const Kept& kept, gradient_in dy, gradient_view d_normed, gradient_view dx) {
        const scratch_of<typename tables::projected_gradient_table> outer(*c.memory, c.tokens);
        const auto d_qkv = outer.template get<"d qkv">();
        attend_backward(c, layer, number, w, g, arguments, kept, dy, d_qkv);
        turn_back(c, w, g, kept, d_qkv);
        project_backward(c, number, w, g, x, kept, d_qkv, d_normed, dx);
    }

    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return either("attention forward",
                      together("", table<typename tables::group_weight_table>(group::projected),
                               table<typename tables::normed_table>(shape.chunk(tokens))),
                      table<typename tables::turned_table>(tokens), table<typename tables::branch_table>(shape.chunk(tokens)));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) {
        return together("attention backward", table<typename tables::projected_gradient_table>(tokens),
                        either("",
                               together("", table<typename tables::attended_gradient_table>(tokens),
                                        either("", table<typename tables::branch_gradient_table>(shape.chunk(tokens)),
                                               together("", table<typename tables::turned_table>(tokens),
                                                        region("attention workspace", Backend::template attention_workspace<Model>(tokens))))),
                               together("", table<typename tables::group_weight_table>(group::projected),
                                        table<typename tables::group_gradient_table>(group::projected),
                                        either("", table<typename tables::normed_table>(shape.chunk(tokens)),
                                               table<typename tables::normed_gradient_table>(shape.chunk(tokens))))));
    }

private:
    template <class Table>
    [[nodiscard]] static constexpr layout table(index rows) {
        return layout_of<precision, Table>("", rows);
    }
    template <class Context, class F>
    static void for_chunks(const Context& c, F&& f) {
        for_token_chunks(c.tokens, shape.chunk(c.tokens), f);
    }
    /// The group's columns of W_o, or of its gradient.
    template <class Parameters>
    [[nodiscard]] static auto columns_of(const Parameters& of, index number) {
        return of.template get<"out.weight">().column_range(number * group::query_width, group::query_width);
    }

    /// The group's rows of the projection, gathered where they do not lie together.
    template <class Context>
    class share {
        using weight = typename Model::template storage<role::weight>;

    public:
        share(Context& c, index number, weights w) : held_(*c.memory, group::projected), all_(w) {
            if constexpr (tables::apart) {
                tables::for_each_part(number, [&](index from, index to, index rows) {
                    c.ops.copy(w.template get<"qkv.weight">().row_range(from, rows),
                               held_.template get<"qkv.weight of a group">().row_range(to, rows));
                    if constexpr (shape.bias) {
                        c.ops.copy(w.template get<"qkv.bias">().column_range(from, rows),
                                   matrix_view(held_.template get<"qkv.bias of a group">().data + to, index{1}, rows));
                    }
                });
            }
        }
        [[nodiscard]] matrix_view<const weight> rows() const {
            if constexpr (tables::apart) return held_.template get<"qkv.weight of a group">();
            else return all_.template get<"qkv.weight">();
        }
        [[nodiscard]] const weight* bias() const {
            if constexpr (tables::apart) return held_.template get<"qkv.bias of a group">().data;
            else return all_.template get<"qkv.bias">().data;
        }

    private:
        scratch_of<typename tables::group_weight_table> held_;
        weights all_;
    };
    /// Where the sums of their gradients come to be; `deal_out` adds them to the layer's.
    template <class Context>
    class share_gradient {
    public:
        share_gradient(Context& c, gradients g) : held_(*c.memory, group::projected), all_(g) {
            if constexpr (tables::apart) {
                c.ops.zero(whole(rows()));
                if constexpr (shape.bias) c.ops.zero(whole(held_.template get<"d qkv.bias of a group">()));
            }
        }
        [[nodiscard]] auto rows() const {
            if constexpr (tables::apart) return held_.template get<"d qkv.weight of a group">();
            else return all_.template get<"qkv.weight">();
        }
        [[nodiscard]] auto* bias() const {
            if constexpr (tables::apart) return held_.template get<"d qkv.bias of a group">().data;
            else return all_.template get<"qkv.bias">().data;
        }
        void deal_out(Context& c, index number) const {
            if constexpr (tables::apart) {
                tables::for_each_part(number, [&](index to, index from, index count) {
                    c.ops.add_rounded(whole(rows().row_range(from, count)), whole(all_.template get<"qkv.weight">().row_range(to, count)));
                    if constexpr (shape.bias) {
                        c.ops.add_rounded(std::span(bias() + from, static_cast<std::size_t>(count)),
                                          std::span(all_.template get<"qkv.bias">().data + to, static_cast<std::size_t>(count)));
                    }
                });
            }
        }

    private:
        /// Of rows without gaps.
        template <class T>
        [[nodiscard]] static std::span<T> whole(matrix_view<T> view) {
            return {view.data, static_cast<std::size_t>(view.size())};
        }
        scratch_of<typename tables::group_gradient_table> held_;
        gradients all_;
    };

    template <class Context, class Kept>
    static void project(Context& c, index number, weights w, residual_in x, const Kept& kept) {
        const share<Context> of_group(c, number, w);
        const scratch_of<typename tables::normed_table> scratch(*c.memory, shape.chunk(c.tokens));
        for_chunks(c, [&](index begin, index count) {
            const rows_of here{kept, begin, count};
            const auto normed = scratch.template get<"normed">().row_range(0, count), qkv = here.template get<"qkv">();
            norm::forward(c, w, x.row_range(begin, count), normed, here);
            c.ops.template linear<Model>(normed, of_group.rows(), of_group.bias(), qkv);
            if constexpr (tables::rotary && !shape.qk_norm) {
                c.ops.template rotary<shape.head()>(qkv.column_range(0, group::turned), c.cosines.row_range(begin, count),
                                                    c.sines.row_range(begin, count), true);
            }
        });
    }

    /// d_qkv, and the gradients of W_o and of sinks.
    template <class Context, class Kept>
    static void attend_backward(Context& c, index layer, index number, weights w, gradients g, const values_of<Pattern>& arguments, const Kept& kept,
                                gradient_in dy, gradient_view d_qkv) {
        const scratch_of<typename tables::attended_gradient_table> scratch(*c.memory, c.tokens);
        const auto d_attended = scratch.template get<"d attended">();
        {
            const scratch_of<typename tables::branch_gradient_table> thinned(*c.memory, shape.chunk(c.tokens));
            for_chunks(c, [&](index begin, index count) {
                const auto d_branch = branch::backward(c, layer, draw_site::attention_branch, begin, dy.row_range(begin, count),
                                                       thinned.template get<"d branch">().row_range(0, count));
                c.ops.template linear_parameter_gradients<Model>(d_branch, kept.template get<"attended">().row_range(begin, count),
                                                                 columns_of(g, number), number == 0 ? g.template get<"out.bias">().data : nullptr);
                c.ops.template linear_input_gradient<Model>(d_branch, columns_of(w, number), d_attended.row_range(begin, count));
            });
        }
        const scratch_of<typename tables::turned_table> turned_scratch(*c.memory, c.tokens);
        const auto qk = turn(c, w, kept, turned_scratch);
        using backend = typename Context::backend;
        const held_region workspace(*c.memory, "attention workspace", backend::template attention_workspace<Model>(c.tokens));
        c.ops.template attention_backward<Model, Pattern>(
            c, layer, number * group::heads, arguments, qk.column_range(0, group::query_width), qk.column_range(group::query_width, group::key_width),
            kept.template get<"qkv">().column_range(group::turned, group::key_width), w.template get<"sink">().data, kept.template get<"attended">(),
            kept.template get<"log-sum-exp">(), d_attended, d_qkv.column_range(0, group::query_width),
            d_qkv.column_range(group::query_width, group::key_width), d_qkv.column_range(group::turned, group::key_width),
            g.template get<"sink">().data, workspace.data());
    }

    template <class Context, class Kept>
    static void project_backward(Context& c, index number, weights w, gradients g, residual_in x, const Kept& kept, gradient_view d_qkv,
                                 gradient_view d_normed_sum, gradient_view dx) {
        const share<Context> of_group(c, number, w);
        const share_gradient<Context> d_group(c, g);
        for_chunks(c, [&](index begin, index count) {
            const rows_of here{kept, begin, count};
            const auto d_here = d_qkv.row_range(begin, count);
            {
                const scratch_of<typename tables::normed_table> scratch(*c.memory, shape.chunk(c.tokens));
                const auto normed = scratch.template get<"normed">().row_range(0, count);
                norm::forward(c, w, x.row_range(begin, count), normed, here);
                c.ops.template linear_parameter_gradients<Model>(d_here, normed, d_group.rows(), d_group.bias());
            }
            if constexpr (tables::sums_first) {
                c.ops.template linear_input_gradient<Model>(d_here, of_group.rows(), d_normed_sum.row_range(begin, count), number > 0);
            } else {
                const scratch_of<typename tables::normed_gradient_table> scratch(*c.memory, shape.chunk(c.tokens));
                const auto d_normed = scratch.template get<"d normed">().row_range(0, count);
                c.ops.template linear_input_gradient<Model>(d_here, of_group.rows(), d_normed);
                norm::template backward<true>(c, w, g, x.row_range(begin, count), d_normed, here, dx.row_range(begin, count));
            }
        });
        d_group.deal_out(c, number);
    }

    /// [queries | keys] as attention reads them. Without QK-norm they were rotated where they lie.
    template <class Context, class Kept, class Scratch>
    static auto turn(Context& c, weights w, const Kept& kept, const Scratch& scratch) {
        const auto raw = kept.template get<"qkv">().column_range(0, group::turned);
        if constexpr (shape.qk_norm) {
            const auto qk = scratch.template get<"rotated">();
            const auto heads = [&](index from, index columns, const auto* weight, auto rstd) {
                return normed_heads{raw.column_range(from, columns), weight, qk.column_range(from, columns), rstd};
            };
            const auto queries = heads(0, group::query_width, w.template get<"query_norm.weight">().data, kept.template get<"query rstd">());
            const auto keys = heads(group::query_width, group::key_width, w.template get<"key_norm.weight">().data, kept.template get<"key rstd">());
            if constexpr (tables::rotary) {
                c.ops.template head_norm_rotary<shape.head()>(queries, keys, shape.norm_epsilon, c.cosines, c.sines);
            } else {
                for (const auto& of : {queries, keys})
                    c.ops.template head_norm<shape.head()>(of.x, of.weight, shape.norm_epsilon, of.y, of.rstd.data);
            }
            return qk;
        } else {
            return raw;
        }
    }

    /// Takes the gradients of rotated queries and keys, side by side in d_qkv, back to those of the projection, in place.
    template <class Context, class Kept>
    static void turn_back(Context& c, weights w, gradients g, const Kept& kept, gradient_view d_qkv) {
        if constexpr (shape.qk_norm) {
            const auto heads = [&](index from, index columns, const auto* weight, auto rstd, auto* d_weight) {
                const auto d = d_qkv.column_range(from, columns);
                return normed_heads_gradient{d, kept.template get<"qkv">().column_range(from, columns), weight, rstd, d, d_weight};
            };
            const auto queries = heads(0, group::query_width, w.template get<"query_norm.weight">().data, kept.template get<"query rstd">(),
                                       g.template get<"query_norm.weight">().data);
            const auto keys = heads(group::query_width, group::key_width, w.template get<"key_norm.weight">().data,
                                    kept.template get<"key rstd">(), g.template get<"key_norm.weight">().data);
            if constexpr (tables::rotary) {
                c.ops.template head_norm_rotary_backward<shape.head()>(queries, keys, c.cosines, c.sines);
            } else {
                for (const auto& of : {queries, keys})
                    c.ops.template head_norm_backward<shape.head()>(of.dy, of.x, of.weight, of.rstd.data, of.dx, of.dweight);
            }
        } else if constexpr (tables::rotary) {
            c.ops.template rotary<shape.head()>(d_qkv.column_range(0, group::turned), c.cosines, c.sines, false);
        }
    }
};

}  // namespace longspan
