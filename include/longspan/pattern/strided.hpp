// SPDX-License-Identifier: Apache-2.0
//
// Every S-th key: q ≡ k (mod S). In natural order every tile under a stride is partial, so these report no full tiles. Where a band is
// cut by one, pattern/comb.hpp says what is left within one remainder, dense again: Hopper's attention walks one after another.
//
//     strided<S>             (q − k) mod S = 0 (Child et al., "Sparse Transformers", arXiv:1904.10509)
//     dilated_window<W, S>   |q − k| < W·S and strided<S>: causal, W keys, the query's own included (arXiv:2004.05150)
//
// One interval each way, wherever the comb's teeth stand: an empty tile between two teeth is visited as a partial one.
#pragma once

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

namespace longspan {

template <index Step>
struct strided_pattern {
    static_assert(Step >= 1, "strided<S>: keys lie S apart, so S is at least 1");
    using arguments = no_arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(no_arguments, index, index query, index key) {
        return (query - key) % Step == 0;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> keys(no_arguments, index, interval) { return seen(); }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<1> queries(no_arguments, index, interval) { return seen(); }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(no_arguments, index, index query, index first_key) {
        return comb(query, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(no_arguments, index, index key, index first_query) {
        return comb(key, first_query);
    }

private:
    LONGSPAN_HD static constexpr any_all<1> seen() {
        any_all<1> result{just(everywhere), {}};
        if (Step == 1) result.all = result.any;
        return result;
    }
    LONGSPAN_HD static constexpr std::uint32_t comb(index position, index first) {
        const index offset = (position - first) % Step;
        std::uint32_t bits = 0;
        for (index i = offset < 0 ? offset + Step : offset; i < 32; i += Step) bits |= 1u << i;
        return bits;
    }
};

template <index Step>
inline constexpr strided_pattern<Step> strided{};

namespace detail {

template <index Width, index Step>
struct dilated {
    static_assert(Width >= 1, "dilated_window<W, S>: a query sees at least itself, so W is at least 1");
    static_assert(Step >= 1, "dilated_window<W, S>: keys lie S apart, so S is at least 1");
    // The widest distance is (W − 1)·S; a window no wider than needed keeps the tiles behind it empty.
    using type = both<window_pattern<(Width >= 1 && Step >= 1 ? (Width - 1) * Step + 1 : 1)>, strided_pattern<(Step >= 1 ? Step : 1)>>;
};

}  // namespace detail

template <index Width, index Step>
inline constexpr typename detail::dilated<Width, Step>::type dilated_window{};

static_assert(pattern<strided_pattern<1>>);

}  // namespace longspan
