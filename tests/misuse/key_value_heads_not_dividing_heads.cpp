// SPDX-License-Identifier: Apache-2.0
// expect: decoder_shape.key_value_heads does not divide decoder_shape.heads
#include <longspan/model/shape.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::decoder_shape shape{.layers = 2, .width = 96, .heads = 6, .key_value_heads = 4, .hidden = 64, .vocabulary = 256, .context = 128};
#else
constexpr ls::decoder_shape shape{.layers = 2, .width = 96, .heads = 6, .key_value_heads = 3, .hidden = 64, .vocabulary = 256, .context = 128};
#endif
static_assert(ls::check_shape<shape>());
