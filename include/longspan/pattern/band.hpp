// SPDX-License-Identifier: Apache-2.0
//
// Bands: a query sees the keys at distances low ≤ q − k ≤ high. Full, causal and window are bands; so is their intersection.
// Exact in both directions, one interval each.
//
//     full          every key
//     causal        k ≤ q
//     window<W>     |q − k| < W; `causal & window<W>` sees W keys, the query's own included (arXiv:2004.05150)
//     window_up_to  the same with a width known at run time
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

namespace detail {

/// Distances [low, high] that a band admits.
struct distances {
    index low, high;
};

/// Positions seen from a run under q − k ∈ [low, high], looking from queries to keys; from keys to queries the signs turn.
LONGSPAN_HD constexpr any_all<1> band_keys(distances d, interval queries) {
    return {just({queries.begin - d.high, queries.end - d.low}), just({queries.end - 1 - d.high, queries.begin + 1 - d.low})};
}
LONGSPAN_HD constexpr any_all<1> band_queries(distances d, interval keys) {
    return {just({keys.begin + d.low, keys.end + d.high}), just({keys.end - 1 + d.low, keys.begin + 1 + d.high})};
}

/// A pattern from `Derived::band(arguments)`.
template <class Derived, class Arguments>
struct band_pattern {
    using arguments = Arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index, index query, index key) {
        const distances d = Derived::band(a);
        return query - key >= d.low && query - key <= d.high;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> keys(const arguments& a, index, interval queries) {
        return band_keys(Derived::band(a), queries);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> queries(const arguments& a, index, interval keys) {
        return band_queries(Derived::band(a), keys);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index, index query, index first_key) {
        const distances d = Derived::band(a);
        return bits_of({query - d.high, query - d.low + 1}, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index, index key, index first_query) {
        const distances d = Derived::band(a);
        return bits_of({key + d.low, key + d.high + 1}, first_query);
    }
};

}  // namespace detail

struct full_pattern : detail::band_pattern<full_pattern, no_arguments> {
    LONGSPAN_HD static constexpr detail::distances band(no_arguments) { return {-no_end / 2, no_end / 2}; }
};

struct causal_pattern : detail::band_pattern<causal_pattern, no_arguments> {
    LONGSPAN_HD static constexpr detail::distances band(no_arguments) { return {0, no_end / 2}; }
};

template <index Width>
struct window_pattern : detail::band_pattern<window_pattern<Width>, no_arguments> {
    static_assert(Width >= 1, "window<W>: a query sees at least itself, so W is at least 1");
    LONGSPAN_HD static constexpr detail::distances band(no_arguments) { return {1 - Width, Width - 1}; }
};

/// Run-time width of `window_up_to`; at least 1.
struct window_width {
    index width = 1;
};
struct window_up_to_pattern : detail::band_pattern<window_up_to_pattern, window_width> {
    LONGSPAN_HD static constexpr detail::distances band(window_width a) { return {1 - a.width, a.width - 1}; }
};

inline constexpr full_pattern full{};
inline constexpr causal_pattern causal{};
template <index Width>
inline constexpr window_pattern<Width> window{};
inline constexpr window_up_to_pattern window_up_to{};

static_assert(pattern<full_pattern> && pattern<causal_pattern> && pattern<window_pattern<1>> && pattern<window_up_to_pattern>);

}  // namespace longspan
