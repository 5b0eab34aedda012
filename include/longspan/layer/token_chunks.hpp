// SPDX-License-Identifier: Apache-2.0
//
// How a layer takes shape.token_chunk tokens at a time, so that what it needs in passing is as wide as those: views of their rows in the
// tensors of all. Chunks are a part of a model's arithmetic (products of other shapes round otherwise), never of a policy's.
// Reference: Bekman et al., "Arctic Long Sequence Training", arXiv:2506.13996 (tiling of what works token by token).
#pragma once

#include <longspan/core/types.hpp>
#include <longspan/memory/tensors.hpp>

namespace longspan {

/// Rows [begin, begin + count) of every tensor that `All` has.
template <class All>
struct rows_of {
    const All& all;
    index begin, count;

    template <fixed_string Name>
    [[nodiscard]] auto get() const {
        return all.template get<Name>().row_range(begin, count);
    }
};
template <class All>
rows_of(const All&, index, index) -> rows_of<All>;

/// Calls f(begin, count) for the tokens of each chunk of `most`, in order.
template <class F>
constexpr void for_token_chunks(index tokens, index most, F&& f) {
    for (index begin = 0; begin < tokens; begin += most) f(begin, tokens - begin < most ? tokens - begin : most);
}

}  // namespace longspan
