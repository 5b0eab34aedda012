// SPDX-License-Identifier: Apache-2.0
//
// The algebra: `a & b` sees what both see, `a | b` what either sees. Everything is derived from the parts: predicates by && and
// ||, intervals by intersection and union, mask words by & and |.
//
// Of the intervals, `any` of a union and `all` of an intersection are exact where the parts are. `all` of a union would miss
// runs of which one part covers the beginning and the other the rest, so what a strip covers is set aside first
// (`uncovered_keys`); `any` of an intersection is exact where the parts' sets overlap only where they agree on some element,
// as bands and strips do. Elsewhere both stay sound: a tile is then tested without need.
#pragma once

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Run-time values of a composition of which both parts have some.
template <class A, class B>
struct paired_arguments {
    A left;
    B right;
};

namespace detail {

/// Takes the arguments of a composition apart. A part without arguments leaves the other's as they are, so that the arguments
/// of `causal | prefix` are those of `prefix`.
template <class A, class B>
struct composed {
    static constexpr bool left_empty = std::is_empty_v<typename A::arguments>;
    static constexpr bool right_empty = std::is_empty_v<typename B::arguments>;
    using arguments = std::conditional_t<left_empty, typename B::arguments,
                                         std::conditional_t<right_empty, typename A::arguments,
                                                            paired_arguments<typename A::arguments, typename B::arguments>>>;

    LONGSPAN_HD static constexpr decltype(auto) left(const arguments& a) {
        if constexpr (left_empty) return typename A::arguments{};
        else if constexpr (right_empty) return (a);
        else return (a.left);
    }
    LONGSPAN_HD static constexpr decltype(auto) right(const arguments& a) {
        if constexpr (right_empty) return typename B::arguments{};
        else if constexpr (left_empty) return (a);
        else return (a.right);
    }
    [[nodiscard]] static constexpr const char* complaint(const arguments& a, index documents) {
        const char* said = longspan::complaint<A>(left(a), documents);
        return said != nullptr ? said : longspan::complaint<B>(right(a), documents);
    }
};

}  // namespace detail

template <pattern A, pattern B>
struct both : detail::composed<A, B> {
    using parts = detail::composed<A, B>;
    using arguments = typename parts::arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index d, index query, index key) {
        return A::contains(parts::left(a), d, query, key) && B::contains(parts::right(a), d, query, key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(const arguments& a, index d, interval queries) {
        return meet(A::keys(parts::left(a), d, queries), B::keys(parts::right(a), d, queries));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(const arguments& a, index d, interval keys) {
        return meet(A::queries(parts::left(a), d, keys), B::queries(parts::right(a), d, keys));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index d, index query, index first_key) {
        return A::key_bits(parts::left(a), d, query, first_key) & B::key_bits(parts::right(a), d, query, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index first_query) {
        return A::query_bits(parts::left(a), d, key, first_query) & B::query_bits(parts::right(a), d, key, first_query);
    }

    LONGSPAN_HD [[nodiscard]] static constexpr auto keys_from(const arguments& a, index d, interval queries, index from, index tile)
        requires(listed_pattern<A> || listed_pattern<B>)
    {
        return meet(longspan::keys_from<A>(parts::left(a), d, queries, from, tile), longspan::keys_from<B>(parts::right(a), d, queries, from, tile));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries_from(const arguments& a, index d, interval keys, index from, index tile)
        requires(listed_pattern<A> || listed_pattern<B>)
    {
        return meet(longspan::queries_from<A>(parts::left(a), d, keys, from, tile), longspan::queries_from<B>(parts::right(a), d, keys, from, tile));
    }

private:
    template <int C, int D>
    LONGSPAN_HD static constexpr any_all<C + D - 1> meet(const any_all<C>& x, const any_all<D>& y) {
        return {intersect(x.any, y.any), intersect(x.all, y.all)};
    }
    template <int C, int D>
    LONGSPAN_HD static constexpr seen_part<C + D - 1> meet(const seen_part<C>& x, const seen_part<D>& y) {
        return {{intersect(x.any, y.any), intersect(x.all, y.all)}, x.until < y.until ? x.until : y.until};
    }
};

/// Two bands meet in a band: one interval a side, however they are composed.
template <pattern A, pattern B>
    requires(detail::is_band<A> && detail::is_band<B>)
struct both<A, B> : detail::composed<A, B>, detail::band_pattern<both<A, B>, typename detail::composed<A, B>::arguments> {
    using parts = detail::composed<A, B>;
    using arguments = typename parts::arguments;

    LONGSPAN_HD static constexpr detail::distances band(const arguments& a) {
        const detail::distances x = A::band(parts::left(a)), y = B::band(parts::right(a));
        return {x.low > y.low ? x.low : y.low, x.high < y.high ? x.high : y.high};
    }
};

template <pattern A, pattern B>
struct either_of : detail::composed<A, B> {
    using parts = detail::composed<A, B>;
    using arguments = typename parts::arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index d, index query, index key) {
        return A::contains(parts::left(a), d, query, key) || B::contains(parts::right(a), d, query, key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(const arguments& a, index d, interval queries) {
        const auto seen_by = [&](interval run) { return join(A::keys(parts::left(a), d, run), B::keys(parts::right(a), d, run)); };
        return with_rest(seen_by, queries, uncovered_queries(a, d, queries));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(const arguments& a, index d, interval keys) {
        const auto seen_by = [&](interval run) { return join(A::queries(parts::left(a), d, run), B::queries(parts::right(a), d, run)); };
        return with_rest(seen_by, keys, uncovered_keys(a, d, keys));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index d, index query, index first_key) {
        return A::key_bits(parts::left(a), d, query, first_key) | B::key_bits(parts::right(a), d, query, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index first_query) {
        return A::query_bits(parts::left(a), d, key, first_query) | B::query_bits(parts::right(a), d, key, first_query);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr interval uncovered_keys(const arguments& a, index d, interval keys) {
        return longspan::uncovered_keys<A>(parts::left(a), d, longspan::uncovered_keys<B>(parts::right(a), d, keys));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr interval uncovered_queries(const arguments& a, index d, interval queries) {
        return longspan::uncovered_queries<A>(parts::left(a), d, longspan::uncovered_queries<B>(parts::right(a), d, queries));
    }

    LONGSPAN_HD [[nodiscard]] static constexpr auto keys_from(const arguments& a, index d, interval queries, index from, index tile)
        requires(listed_pattern<A> || listed_pattern<B>)
    {
        const auto seen_by = [&](interval run) {
            return join(longspan::keys_from<A>(parts::left(a), d, run, from, tile), longspan::keys_from<B>(parts::right(a), d, run, from, tile));
        };
        return with_rest(seen_by, queries, uncovered_queries(a, d, queries));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries_from(const arguments& a, index d, interval keys, index from, index tile)
        requires(listed_pattern<A> || listed_pattern<B>)
    {
        const auto seen_by = [&](interval run) {
            return join(longspan::queries_from<A>(parts::left(a), d, run, from, tile), longspan::queries_from<B>(parts::right(a), d, run, from, tile));
        };
        return with_rest(seen_by, keys, uncovered_keys(a, d, keys));
    }

private:
    template <int C, int D>
    LONGSPAN_HD static constexpr any_all<C + D> join(const any_all<C>& x, const any_all<D>& y) {
        return {unite(x.any, y.any), unite(x.all, y.all)};
    }
    template <int C, int D>
    LONGSPAN_HD static constexpr seen_part<C + D> join(const seen_part<C>& x, const seen_part<D>& y) {
        return {{unite(x.any, y.any), unite(x.all, y.all)}, x.until < y.until ? x.until : y.until};
    }
    // What all of a run see is what all of its uncovered part see.
    template <class SeenBy>
    LONGSPAN_HD static constexpr auto with_rest(const SeenBy& seen_by, interval run, interval rest) {
        auto seen = seen_by(run);
        if (rest == run) return seen;
        seen.all = {};
        if (rest.empty()) {
            seen.all.append(everywhere);
        } else {
            const auto of_rest = seen_by(rest);
            seen.all = of_rest.all;
            if constexpr (requires { seen.until; }) seen.until = seen.until < of_rest.until ? seen.until : of_rest.until;
        }
        return seen;
    }
};

/// Sees what both see.
template <pattern A, pattern B>
[[nodiscard]] constexpr both<A, B> operator&(A, B) {
    return {};
}

/// Sees what either sees.
template <pattern A, pattern B>
[[nodiscard]] constexpr either_of<A, B> operator|(A, B) {
    return {};
}

namespace detail {

template <class A, class B>
inline constexpr bool are_patterns = pattern<A> && pattern<B>;
template <class A, class B>
using whichever_is_pattern = std::conditional_t<pattern<A>, A, B>;

}  // namespace detail

/// A pattern and something that is none: a sentence instead of a list of overloads.
template <class A, class B>
    requires(pattern<A> != pattern<B>)
constexpr auto operator&(A, B) {
    static_assert(detail::are_patterns<A, B>, "a pattern composes with patterns only: ls::causal & ls::window<512>, not ls::causal & 512");
    return detail::whichever_is_pattern<A, B>{};
}
template <class A, class B>
    requires(pattern<A> != pattern<B>)
constexpr auto operator|(A, B) {
    static_assert(detail::are_patterns<A, B>, "a pattern composes with patterns only: ls::causal | ls::prefix, not ls::causal | 16");
    return detail::whichever_is_pattern<A, B>{};
}

}  // namespace longspan
