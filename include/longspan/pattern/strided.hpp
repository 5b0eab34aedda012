// SPDX-License-Identifier: Apache-2.0
//
// Every S-th key: q ≡ k (mod S). In natural order every tile under a stride is partial, so these report no full tiles; a kernel
// that wants them dense reorders the sequence by remainder.
//
//     strided<S>             (q − k) mod S = 0 (Child et al., "Sparse Transformers", arXiv:1904.10509)
//     dilated_window<W, S>   W keys on each side, S apart: window<W·S> & strided<S>; causal, W keys with the query's own
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

template <index Width, index Step>
inline constexpr both<window_pattern<Width * Step>, strided_pattern<Step>> dilated_window{};

static_assert(pattern<strided_pattern<1>>);

}  // namespace longspan
