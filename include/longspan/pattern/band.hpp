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

#include <type_traits>

#include <longspan/pattern/pattern.hpp>

namespace longspan {

namespace detail {

/// Distances q − k that a band admits: low … high, both included.
struct distances {
    index low, high;
};

/// Farther than any two positions lie apart.
inline constexpr index any_distance = no_end / 2;

/// A pattern from `Derived::band(arguments)`.
template <class Derived, class Arguments>
struct band_pattern {
    using arguments = Arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index, index query, index key) {
        const distances d = Derived::band(a);
        return query - key >= d.low && query - key <= d.high;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> keys(const arguments& a, index, interval queries) {
        const distances d = Derived::band(a);
        return {just({queries.begin - d.high, queries.end - d.low}), just({queries.end - 1 - d.high, queries.begin + 1 - d.low})};
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> queries(const arguments& a, index, interval keys) {
        const distances d = Derived::band(a);
        return {just({keys.begin + d.low, keys.end + d.high}), just({keys.end - 1 + d.low, keys.begin + 1 + d.high})};
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

template <class P>
inline constexpr bool is_band = std::is_base_of_v<band_pattern<P, typename P::arguments>, P>;

}  // namespace detail

struct full_pattern : detail::band_pattern<full_pattern, no_arguments> {
    LONGSPAN_HD static constexpr detail::distances band(no_arguments) { return {-detail::any_distance, detail::any_distance}; }
};

struct causal_pattern : detail::band_pattern<causal_pattern, no_arguments> {
    LONGSPAN_HD static constexpr detail::distances band(no_arguments) { return {0, detail::any_distance}; }
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
    LONGSPAN_HD static constexpr detail::distances band(window_width a) {
        // No distance is wider, and sums with positions stay below 2^63.
        const index reach = a.width <= detail::any_distance ? a.width - 1 : detail::any_distance;
        return {-reach, reach};
    }
    [[nodiscard]] static constexpr const char* complaint(window_width a, index) {
        return a.width >= 1 ? nullptr : "window_up_to: a query sees at least itself, so the width is at least 1";
    }
};

inline constexpr full_pattern full{};
inline constexpr causal_pattern causal{};
template <index Width>
inline constexpr window_pattern<Width> window{};
inline constexpr window_up_to_pattern window_up_to{};

static_assert(pattern<full_pattern> && pattern<causal_pattern> && pattern<window_pattern<1>> && pattern<window_up_to_pattern>);

}  // namespace longspan
