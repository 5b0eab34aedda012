// SPDX-License-Identifier: Apache-2.0
//
// The choices which a model's shape makes by name, with the paper of each.
#pragma once

namespace longspan {

enum class norm_kind : unsigned char {
    rms,   ///< x / rms(x) · w (Zhang & Sennrich, arXiv:1910.07467)
    layer  ///< (x − mean) / deviation · w + b (Ba et al., arXiv:1607.06450)
};

enum class mlp_kind : unsigned char {
    silu_gated,  ///< silu(x Wg) ⊙ (x Wu) · Wd, "SwiGLU" (Shazeer, arXiv:2002.05202)
    gelu,        ///< gelu(x Wu) · Wd with the error function
    gelu_tanh    ///< the same with GPT-2's tanh form
};

enum class residual_kind : unsigned char {
    one_stream,  ///< y = x + branch, in the format of the precision
    two_streams  ///< y₁ = x₁ + attention(x₂), y₂ = x₂ + mlp(y₁), in fixed point: a block's input follows from its output, to the bit
                 ///< (Gomez et al., arXiv:1707.04585; Mangalam et al., "Reversible Vision Transformers", arXiv:2302.04869)
};

/// The two halves of a block, in the order in which they run forward.
enum class block_half : unsigned char { attention, mlp };

enum class position_kind : unsigned char {
    rotary,      ///< rotated queries and keys (Su et al., arXiv:2104.09864), half-split pairing
    learned,     ///< a table [context, width] added to the embedding
    sinusoidal,  ///< the fixed table of Vaswani et al., arXiv:1706.03762
    alibi,       ///< a slope per head added to the scores (Press et al., arXiv:2108.12409)
    none
};

}  // namespace longspan
