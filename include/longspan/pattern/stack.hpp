// SPDX-License-Identifier: Apache-2.0
//
// Patterns per layer: layer l of a model takes the l-th pattern of the stack, round and round, so that local and full layers
// mix (arXiv:2408.00118 alternates them). A plain pattern is a stack of one.
//
//     static constexpr auto attention = ls::stack<ls::causal & ls::window<1024>, ls::causal>;
#pragma once

#include <tuple>

#include <longspan/pattern/pattern.hpp>

namespace longspan {

template <pattern... Patterns>
    requires(sizeof...(Patterns) > 0)
struct layered_patterns {
    using list = std::tuple<Patterns...>;
};

/// Takes pattern values: stack<causal & window<512>, causal>.
template <auto... Patterns>
inline constexpr layered_patterns<pattern_of<Patterns>...> stack{};

namespace detail {

template <class S>
struct patterns_of {
    using list = std::tuple<S>;
};
template <class... Patterns>
struct patterns_of<layered_patterns<Patterns...>> {
    using list = std::tuple<Patterns...>;
};

template <class S>
inline constexpr bool is_layered = false;
template <class... Patterns>
inline constexpr bool is_layered<layered_patterns<Patterns...>> = true;

}  // namespace detail

/// A pattern, or a stack of them.
template <class S>
concept pattern_stack = pattern<S> || detail::is_layered<S>;

/// How many patterns a stack goes through.
template <pattern_stack S>
inline constexpr index pattern_count = static_cast<index>(std::tuple_size_v<typename detail::patterns_of<S>::list>);

/// The pattern of layer l.
template <pattern_stack S, index Layer>
using pattern_at = std::tuple_element_t<static_cast<std::size_t>(Layer % pattern_count<S>), typename detail::patterns_of<S>::list>;

}  // namespace longspan
