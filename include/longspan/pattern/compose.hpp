// SPDX-License-Identifier: Apache-2.0
//
// The algebra: `a & b` sees what both see, `a | b` what either sees. Everything is derived from the parts: predicates by && and
// ||, intervals by intersection and union, mask words by & and |. Of the intervals, `any` of a union and `all` of an
// intersection are exact; `all` of a union and `any` of an intersection are sound, and exact for the shipped patterns.
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Run-time values of a composition; empty when both parts' are.
template <class A, class B>
struct paired_arguments {
    [[no_unique_address]] A left;
    [[no_unique_address]] B right;
};

template <pattern A, pattern B>
struct both {
    using arguments = paired_arguments<typename A::arguments, typename B::arguments>;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index d, index query, index key) {
        return A::contains(a.left, d, query, key) && B::contains(a.right, d, query, key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(const arguments& a, index d, interval queries) {
        return meet(A::keys(a.left, d, queries), B::keys(a.right, d, queries));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(const arguments& a, index d, interval keys) {
        return meet(A::queries(a.left, d, keys), B::queries(a.right, d, keys));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index d, index query, index first_key) {
        return A::key_bits(a.left, d, query, first_key) & B::key_bits(a.right, d, query, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index first_query) {
        return A::query_bits(a.left, d, key, first_query) & B::query_bits(a.right, d, key, first_query);
    }

private:
    template <int C, int D>
    LONGSPAN_HD static constexpr any_all<C + D - 1> meet(const any_all<C>& x, const any_all<D>& y) {
        return {intersect(x.any, y.any), intersect(x.all, y.all)};
    }
};

template <pattern A, pattern B>
struct either_of {
    using arguments = paired_arguments<typename A::arguments, typename B::arguments>;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index d, index query, index key) {
        return A::contains(a.left, d, query, key) || B::contains(a.right, d, query, key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(const arguments& a, index d, interval queries) {
        return join(A::keys(a.left, d, queries), B::keys(a.right, d, queries));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(const arguments& a, index d, interval keys) {
        return join(A::queries(a.left, d, keys), B::queries(a.right, d, keys));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index d, index query, index first_key) {
        return A::key_bits(a.left, d, query, first_key) | B::key_bits(a.right, d, query, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index first_query) {
        return A::query_bits(a.left, d, key, first_query) | B::query_bits(a.right, d, key, first_query);
    }

private:
    template <int C, int D>
    LONGSPAN_HD static constexpr any_all<C + D> join(const any_all<C>& x, const any_all<D>& y) {
        return {unite(x.any, y.any), unite(x.all, y.all)};
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

}  // namespace longspan
