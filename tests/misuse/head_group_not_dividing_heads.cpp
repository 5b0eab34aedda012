// SPDX-License-Identifier: Apache-2.0
// expect: decoder_shape.head_group does not divide the key/value heads
#include <longspan/model/shape.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::decoder_shape shape{.layers = 2, .width = 64, .heads = 8, .key_value_heads = 4, .hidden = 64, .vocabulary = 256, .context = 128,
                                  .head_group = 3};
#else
constexpr ls::decoder_shape shape{.layers = 2, .width = 64, .heads = 8, .key_value_heads = 4, .hidden = 64, .vocabulary = 256, .context = 128,
                                  .head_group = 2};
#endif
static_assert(ls::check_shape<shape>());
