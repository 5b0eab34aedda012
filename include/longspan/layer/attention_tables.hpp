// SPDX-License-Identifier: Apache-2.0
//
// Everything of the attention branch that does not depend on the pattern: parameters, saved tensors, and what is there in passing, all of
// it for one group of heads (shape.head_group key/value heads and the query heads that they serve; all of them unless the shape says so).
//
// Saved per token: the projection (h + 2k)·d, the output h·d, the log-sum-exp h, the norm's statistics. Each group's are tensors of their
// own, so that products read them by the same strides whether all groups are kept or one exists at a time: the same kernels, the same bits.
#pragma once

#include <array>
#include <cstddef>

#include <longspan/layer/branch.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>

namespace longspan {

template <class Model>
struct attention_tables {
    static constexpr auto shape = Model::shape;
    using precision = typename Model::precision;
    using branch = residual_branch<Model>;
    using norm = normalisation<Model>;

    static constexpr index width = shape.width;
    static constexpr index query_width = shape.query_width();
    static constexpr index key_width = shape.key_value_width();
    static constexpr index projected = query_width + 2 * key_width;  ///< columns of [queries | keys | values]
    static constexpr bool rotary = shape.positions == position_kind::rotary;

    static constexpr index groups = shape.head_groups();
    /// Whether a group's share of the projection has to be gathered, and its gradient dealt out again.
    static constexpr bool apart = groups > 1;
    /// Where a branch's gradient may lie in the gradient that it adds to, the sum over groups must be complete before it is added.
    static constexpr bool sums_first = apart && shape.streams() == 1;
    /// Of one group.
    struct group {
        static constexpr index heads = shape.group_heads();
        static constexpr index key_heads = shape.group_key_value_heads();
        static constexpr index query_width = heads * shape.head();
        static constexpr index key_width = key_heads * shape.head();
        static constexpr index projected = query_width + 2 * key_width;
        static constexpr index turned = query_width + key_width;  ///< columns of [queries | keys]
    };

    struct parameter_table {
        static constexpr std::array list{
            norm::weight,
            norm::bias,
            parameter{"qkv.weight", projected, width, initial::normal, fan_in_deviation(width), true, shard::column},
            parameter{"qkv.bias", 1, shape.bias ? projected : 0, initial::zeros, 0, false, shard::column},
            parameter{"query_norm.weight", 1, shape.qk_norm ? shape.head() : 0, initial::ones, 0, false, shard::none},
            parameter{"key_norm.weight", 1, shape.qk_norm ? shape.head() : 0, initial::ones, 0, false, shard::none},
            parameter{"sink", 1, shape.sink ? shape.heads : 0, initial::zeros, 0, false, shard::column},
            parameter{"out.weight", width, query_width, initial::normal, residual_deviation(query_width, shape.layers), true, shard::row},
            parameter{"out.bias", 1, shape.bias ? width : 0, initial::zeros, 0, false, shard::none},
        };
    };
    using weights = typename Model::template weights<parameter_table>;
    using gradients = typename Model::template gradients<parameter_table>;

    /// What `Groups` of them save.
    template <index Groups>
    struct saved_of {
        static constexpr auto list = [] {
            constexpr auto count = static_cast<std::size_t>(Groups);
            std::array<tensor, 2 + 5 * count> all{norm::mean, norm::rstd};
            const tensor of_group[] = {
                {"qkv", role::saved, group::projected, cost::product},
                {"query rstd", role::statistic, shape.qk_norm ? group::heads : 0},
                {"key rstd", role::statistic, shape.qk_norm ? group::key_heads : 0},
                {"attended", role::saved, group::query_width, cost::attention},
                {"log-sum-exp", role::statistic, group::heads, cost::attention},
            };
            for (std::size_t i = 0; i < 5 * count; ++i) all[2 + i] = of_group[i / count];
            return all;
        }();
    };
    using saved_table = saved_of<groups>;
    using saved = tensors<precision, saved_table>;
    using saved_of_group = tensors<precision, saved_of<1>>;
    /// One group's among what several save.
    template <class Saved>
    struct kept_of {
        const Saved& all;
        index number;
        template <fixed_string Name>
        [[nodiscard]] auto get() const {
            return all.template get<Name>(Name.view() == norm::mean.name || Name.view() == norm::rstd.name ? 0 : number);
        }
    };

    struct normed_table {
        static constexpr std::array list{tensor{"normed", role::activation, width, cost::product}};
    };
    struct turned_table {
        static constexpr std::array list{tensor{"rotated", role::saved, shape.qk_norm ? group::turned : 0, cost::attention}};
    };
    struct branch_table {
        static constexpr std::array list{tensor{"branch", role::activation, branch::apart ? width : 0, cost::product}};
    };
    struct projected_gradient_table {
        static constexpr std::array list{tensor{"d qkv", role::gradient, group::projected}};
    };
    struct branch_gradient_table {
        static constexpr std::array list{tensor{"d branch", role::gradient, branch::thinned ? width : 0}};
    };
    struct attended_gradient_table {
        static constexpr std::array list{tensor{"d attended", role::gradient, group::query_width}};
    };
    struct normed_gradient_table {
        static constexpr std::array list{tensor{"d normed", role::gradient, sums_first ? 0 : width}};
    };
    struct normed_gradient_sum_table {
        static constexpr std::array list{tensor{"d normed of all heads", role::gradient, sums_first ? width : 0}};
    };
    /// [group::projected, width], where the group's rows do not lie together already.
    struct group_weight_table {
        static constexpr std::array list{tensor{"qkv.weight of a group", role::weight, apart ? width : 0, cost::product},
                                         tensor{"qkv.bias of a group", role::weight, apart && shape.bias ? 1 : 0, cost::product}};
    };
    struct group_gradient_table {
        static constexpr std::array list{tensor{"d qkv.weight of a group", role::parameter_gradient, apart ? width : 0},
                                         tensor{"d qkv.bias of a group", role::parameter_gradient, apart && shape.bias ? 1 : 0}};
    };

    /// Calls f(first row of the layer's projection, first row of the group's own, rows) for a group's queries, keys and values.
    template <class F>
    static constexpr void for_each_part(index number, F&& f) {
        f(number * group::query_width, index{0}, group::query_width);
        f(query_width + number * group::key_width, group::query_width, group::key_width);
        f(query_width + key_width + number * group::key_width, group::turned, group::key_width);
    }
};

}  // namespace longspan
