// SPDX-License-Identifier: Apache-2.0
//
// Strips: keys, or queries, below a bound.
//
//     first<N>    keys k < N: global keys, "attention sinks" when causal (arXiv:2309.17453)
//     global<N>   q < N or k < N: tokens that see and are seen by all (Longformer, arXiv:2004.05150)
//     prefix      k < the document's prefix length, known at run time; `causal | prefix` is a prefix-LM (arXiv:1910.10683)
//
// Exact in both directions, one interval each. What a strip covers wholly it sets aside, so that unions with it are exact too.
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

namespace detail {

/// Keys below a bound; `Derived::bound(arguments, document)`.
template <class Derived, class Arguments>
struct key_strip {
    using arguments = Arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const arguments& a, index d, index, index key) {
        return key < Derived::bound(a, d);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> keys(const arguments& a, index d, interval) {
        return {just({0, Derived::bound(a, d)}), just({0, Derived::bound(a, d)})};
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> queries(const arguments& a, index d, interval keys) {
        any_all<1> seen{};
        if (keys.begin < Derived::bound(a, d)) seen.any.append(everywhere);
        if (keys.end <= Derived::bound(a, d)) seen.all.append(everywhere);
        return seen;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr interval uncovered_keys(const arguments& a, index d, interval keys) {
        return overlap(keys, {Derived::bound(a, d), no_end});
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const arguments& a, index d, index, index first_key) {
        return bits_of({0, Derived::bound(a, d)}, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index) {
        return key < Derived::bound(a, d) ? ~0u : 0u;
    }
};

}  // namespace detail

template <index Count>
struct first_pattern : detail::key_strip<first_pattern<Count>, no_arguments> {
    static_assert(Count >= 1, "first<N>: at least 1 key is global, so N is at least 1");
    LONGSPAN_HD static constexpr index bound(no_arguments, index) { return Count; }
};

/// Run-time prefix lengths, one per piece of the batch, in the order of its table; 0 where there is none.
struct prefix_lengths {
    const index* lengths = nullptr;
};
struct prefix_pattern : detail::key_strip<prefix_pattern, prefix_lengths> {
    LONGSPAN_HD static constexpr index bound(prefix_lengths a, index document) { return a.lengths[document]; }

    [[nodiscard]] static constexpr const char* complaint(prefix_lengths a, index documents) {
        if (a.lengths == nullptr && documents > 0) return "prefix: expected one prefix length per piece of the batch, but none were given";
        for (index d = 0; d < documents; ++d) {
            if (a.lengths[d] < 0) return "prefix: a prefix length is at least 0, but a negative one came";
        }
        return nullptr;
    }
};

template <index Count>
struct global_pattern {
    static_assert(Count >= 1, "global<N>: at least 1 token is global, so N is at least 1");
    using arguments = no_arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(no_arguments, index, index query, index key) {
        return query < Count || key < Count;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr interval uncovered_keys(no_arguments, index, interval keys) {
        return overlap(keys, {Count, no_end});
    }
    LONGSPAN_HD [[nodiscard]] static constexpr interval uncovered_queries(no_arguments, index, interval queries) {
        return overlap(queries, {Count, no_end});
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> keys(no_arguments, index, interval queries) { return seen_from(queries); }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> queries(no_arguments, index, interval keys) { return seen_from(keys); }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(no_arguments, index, index query, index first_key) {
        return query < Count ? ~0u : bits_of({0, Count}, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(no_arguments, index, index key, index first_query) {
        return key < Count ? ~0u : bits_of({0, Count}, first_query);
    }

private:
    LONGSPAN_HD static constexpr any_all<1> seen_from(interval run) {
        return {just(run.begin < Count ? everywhere : interval{0, Count}), just(run.end <= Count ? everywhere : interval{0, Count})};
    }
};

template <index Count>
inline constexpr first_pattern<Count> first{};
template <index Count>
inline constexpr global_pattern<Count> global{};
inline constexpr prefix_pattern prefix{};

static_assert(pattern<first_pattern<1>> && pattern<global_pattern<1>> && pattern<prefix_pattern>);

}  // namespace longspan
