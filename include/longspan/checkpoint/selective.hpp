// SPDX-License-Identifier: Apache-2.0
//
// Keep what is dear to make again, make the cheap rest again in the backward. With c the width, q of the queries, v of keys and
// values together, f the hidden width and h heads, in elements a token and block:
//
// policy              kept beside the stream                        made again                            products made again
// selective           attended q, log-sum-exp h                     qkv, stream between branches, MLP's   c·(q + v) + q·c + c·2f
// selective_products  the same, qkv q + v, stream between branches  the MLP's pre-activation              c·2f
//
// Attention itself never runs twice: its time grows with the documents' length, its bytes do not. The MLP's pre-activation is
// the widest tensor of a block and takes one product. Reference: Korthikanti et al., arXiv:2205.05198, which makes attention
// again and keeps the rest; with attention that keeps no scores it is the other way round.
#pragma once

#include <longspan/checkpoint/segments.hpp>

namespace longspan {

/// The stream, attention's output and its log-sum-exp are kept.
inline constexpr segment_policy<block_rule{.segment = 1, .kept_from = cost::attention}> selective{};

/// And the inputs of what is dear: queries, keys and values for attention, the stream between the branches for the MLP.
inline constexpr segment_policy<block_rule{.segment = 1, .kept_from = cost::product}> selective_products{};

}  // namespace longspan
