// SPDX-License-Identifier: Apache-2.0
// expect: decoder_shape: dropout, attention_dropout and stochastic_depth are probabilities in [0, 1)
#include <longspan/model/shape.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::decoder_shape shape{.layers = 2, .width = 96, .heads = 3, .hidden = 64, .vocabulary = 256, .context = 128, .dropout = 1};
#else
constexpr ls::decoder_shape shape{.layers = 2, .width = 96, .heads = 3, .hidden = 64, .vocabulary = 256, .context = 128, .dropout = 0.9};
#endif
static_assert(ls::check_shape<shape>());
