// SPDX-License-Identifier: Apache-2.0
// expect: decoder_shape.positions = rotary turns pairs of elements: the head width must be even
#include <longspan/model/shape.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::decoder_shape shape{.layers = 2, .width = 45, .heads = 3, .hidden = 64, .vocabulary = 256, .context = 128};
#else
constexpr ls::decoder_shape shape{.layers = 2, .width = 45, .heads = 3, .hidden = 64, .vocabulary = 256, .context = 128, .positions = ls::position_kind::learned};
#endif
static_assert(ls::check_shape<shape>());
