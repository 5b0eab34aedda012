// SPDX-License-Identifier: Apache-2.0
//
// From a planned batch to a batch: reads the text of its pieces, sets targets one token ahead, fills what is left with padding,
// completes the piece table, and sorts the tokens by id. Where a document is cut, the last token of a piece still has its
// target, the first token of the next piece; only the last token of a document has none.
#pragma once

#include <longspan/batch/permutation.hpp>
#include <longspan/batch/plan.hpp>

namespace longspan {

/// Fills `out`, which may be an earlier batch: once it has the right sizes, only a scratch line of one piece is allocated.
/// `pieces` lie by increasing begin, apart from each other, in [0, budget), with gaps where padding shall be. Throws
/// bad_argument if they do not, if the table is too short for them and the gaps, or if the source hands out a token outside its
/// vocabulary; and what the source throws.
template <document_source Source>
void assemble(token_batch& out, const Source& source, std::span<const planned_piece> pieces, index budget, index max_pieces);

}  // namespace longspan

#include <longspan/batch/detail/assemble.hpp>
