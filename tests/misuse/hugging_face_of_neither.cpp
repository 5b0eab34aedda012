// SPDX-License-Identifier: Apache-2.0
// expect: hugging_face: the shape is neither GPT-2's (LayerNorm, GELU, learned positions, biases, heads that share nothing and fill the width) nor Llama's (RMSNorm, SwiGLU, rotary positions); neither has qk_norm, sink or soft_cap
#include <longspan/model/hugging_face.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr bool normed = true;
#else
constexpr bool normed = false;
#endif
constexpr ls::decoder_shape shape{.layers = 2, .width = 48, .heads = 3, .hidden = 64, .vocabulary = 256, .context = 128, .qk_norm = normed};
void names() { ls::for_each_hugging_face_tensor<ls::model_of<shape, ls::uniform_precision<float>>>([](const ls::hugging_face_tensor&) {}); }
