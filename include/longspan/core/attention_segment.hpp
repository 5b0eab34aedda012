// SPDX-License-Identifier: Apache-2.0
//
// What both backends' attention is told of a batch, and what it is told of a score at compile time.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

/// A run of queries and the run of keys which they may see: a document, or a part of one. Rows of the query set
/// [query_begin, + query_count) are positions from query_position on; keys likewise. No query and no
/// key belongs to two segments of a call; what belongs to none is not written.
struct attention_segment {
    index query_begin = 0, query_count = 0, query_position = 0;
    index key_begin = 0, key_count = 0, key_position = 0;
    index ordinal = 0;   ///< `document` of the pattern's functions: the piece's place in its table
    index document = 0;  ///< id of the document: dropout is keyed by it
};

/// What happens to a score between the product and the softmax, chosen at compile time; unused parts cost nothing.
/// Rounding: what products round their operands to as they read them (tf32_format), void for as stored.
template <bool SoftCap = false, bool Alibi = false, bool Sink = false, bool Dropout = false, class Rounding = void>
struct score {
    static constexpr bool soft_cap = SoftCap, alibi = Alibi, sink = Sink, dropout = Dropout;
    using rounding = Rounding;
};

}  // namespace longspan
