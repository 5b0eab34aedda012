// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a GPT-2 or a Llama under the names, and in the layout, of Hugging Face's transformers: a run may start from
// weights that were published, and what it learns may be published.
//
//   here                        GPT-2                                       Llama
//   attention.qkv [q|k|v, c]    attn.c_attn, transposed                     self_attn.q_proj, k_proj, v_proj
//   mlp.in [f, c]               mlp.c_fc, transposed                        mlp.gate_proj, up_proj: here [gate|up, c]
//   rotary pairs                none                                        (j, j + d/2), as here
//
// GPT-2's projections are Conv1D, y = x·W with W [in, out], where ours are [out, in]; its tables and its head are not. A tied head
// has no tensor of its own. Names alone make no model: epsilon and the base of angles stand in config.json, and must match the shape.
//
// Reference: GPT2LMHeadModel and LlamaForCausalLM of transformers (tests/fixtures/make.py names the version that was checked).
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/model/parameter_layout.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/precision/format.hpp>

namespace longspan {

/// One tensor of theirs, and where its elements lie in a parameter store of ours.
struct hugging_face_tensor {
    std::string name;
    index offset = 0;         ///< elements from the start of the store
    index outputs = 0;        ///< rows of ours
    index inputs = 1;         ///< elements of a row of ours
    bool vector = false;      ///< they have one axis
    bool transposed = false;  ///< theirs is [inputs, outputs]

    [[nodiscard]] index size() const { return outputs * inputs; }
    /// Of theirs.
    [[nodiscard]] std::vector<index> shape() const {
        if (vector) return {outputs};
        return transposed ? std::vector{inputs, outputs} : std::vector{outputs, inputs};
    }
};

/// Copies theirs into a store of ours (weights, gradients, moments: all are laid out alike), and back, rounded to nearest where the
/// format is narrower: weights in bf16 are written as they are. Throws bad_argument unless `theirs` has as many elements as the tensor,
/// and the store reaches that far.
template <storage_format From, storage_format To>
void from_hugging_face(const hugging_face_tensor& tensor, std::span<const From> theirs, std::span<To> store);
template <storage_format From, storage_format To>
void to_hugging_face(const hugging_face_tensor& tensor, std::span<const From> store, std::span<To> theirs);

/// Calls f(hugging_face_tensor) for every tensor of theirs, in the order of our store. Update: the configuration's (`update_of`), where it
/// has one, since moments in eight bits may lie further apart.
template <class Model, class Update = update_storage<>, class F>
void for_each_hugging_face_tensor(F&& f);

namespace detail {

enum class laid_out : unsigned char { alike, transposed, vector };

/// A parameter of ours, in the parts of its name, is theirs; where several are, each takes the next `outputs`.
struct renamed {
    std::string_view ours, theirs;
    laid_out how = laid_out::alike;
    index outputs = 0;  ///< 0: all of them
};

template <decoder_shape Shape>
consteval bool is_gpt2_or_llama() {
    constexpr bool plain = !Shape.qk_norm && !Shape.sink && Shape.soft_cap == 0;
    constexpr bool gpt2 = plain && Shape.norm == norm_kind::layer && !Shape.gated() && Shape.positions == position_kind::learned && Shape.bias &&
                          Shape.grouped_heads() == Shape.heads && Shape.query_width() == Shape.width;
    constexpr bool llama = plain && Shape.norm == norm_kind::rms && Shape.gated() && Shape.positions == position_kind::rotary;
    static_assert(gpt2 || llama, "hugging_face: the shape is neither GPT-2's (LayerNorm, GELU, learned positions, biases, heads that share "
                                 "nothing and fill the width) nor Llama's (RMSNorm, SwiGLU, rotary positions); neither has qk_norm, sink "
                                 "or soft_cap");
    return gpt2 || llama;
}

inline constexpr std::array gpt2_names{
    renamed{"embedding.weight", "transformer.wte.weight"},
    renamed{"position.weight", "transformer.wpe.weight"},
    renamed{"attention.norm.weight", "ln_1.weight", laid_out::vector},
    renamed{"attention.norm.bias", "ln_1.bias", laid_out::vector},
    renamed{"attention.qkv.weight", "attn.c_attn.weight", laid_out::transposed},
    renamed{"attention.qkv.bias", "attn.c_attn.bias", laid_out::vector},
    renamed{"attention.out.weight", "attn.c_proj.weight", laid_out::transposed},
    renamed{"attention.out.bias", "attn.c_proj.bias", laid_out::vector},
    renamed{"mlp.norm.weight", "ln_2.weight", laid_out::vector},
    renamed{"mlp.norm.bias", "ln_2.bias", laid_out::vector},
    renamed{"mlp.in.weight", "mlp.c_fc.weight", laid_out::transposed},
    renamed{"mlp.in.bias", "mlp.c_fc.bias", laid_out::vector},
    renamed{"mlp.out.weight", "mlp.c_proj.weight", laid_out::transposed},
    renamed{"mlp.out.bias", "mlp.c_proj.bias", laid_out::vector},
    renamed{"head.norm.weight", "transformer.ln_f.weight", laid_out::vector},
    renamed{"head.norm.bias", "transformer.ln_f.bias", laid_out::vector},
    renamed{"head.weight", "lm_head.weight"},
};

template <decoder_shape Shape>
inline constexpr std::array llama_names{
    renamed{"embedding.weight", "model.embed_tokens.weight"},
    renamed{"attention.norm.weight", "input_layernorm.weight", laid_out::vector},
    renamed{"attention.qkv.weight", "self_attn.q_proj.weight", laid_out::alike, Shape.query_width()},
    renamed{"attention.qkv.weight", "self_attn.k_proj.weight", laid_out::alike, Shape.key_value_width()},
    renamed{"attention.qkv.weight", "self_attn.v_proj.weight", laid_out::alike, Shape.key_value_width()},
    renamed{"attention.qkv.bias", "self_attn.q_proj.bias", laid_out::vector, Shape.query_width()},
    renamed{"attention.qkv.bias", "self_attn.k_proj.bias", laid_out::vector, Shape.key_value_width()},
    renamed{"attention.qkv.bias", "self_attn.v_proj.bias", laid_out::vector, Shape.key_value_width()},
    renamed{"attention.out.weight", "self_attn.o_proj.weight"},
    renamed{"attention.out.bias", "self_attn.o_proj.bias", laid_out::vector},
    renamed{"mlp.norm.weight", "post_attention_layernorm.weight", laid_out::vector},
    renamed{"mlp.in.weight", "mlp.gate_proj.weight", laid_out::alike, Shape.hidden},
    renamed{"mlp.in.weight", "mlp.up_proj.weight", laid_out::alike, Shape.hidden},
    renamed{"mlp.in.bias", "mlp.gate_proj.bias", laid_out::vector, Shape.hidden},
    renamed{"mlp.in.bias", "mlp.up_proj.bias", laid_out::vector, Shape.hidden},
    renamed{"mlp.out.weight", "mlp.down_proj.weight"},
    renamed{"mlp.out.bias", "mlp.down_proj.bias", laid_out::vector},
    renamed{"head.norm.weight", "model.norm.weight", laid_out::vector},
    renamed{"head.weight", "lm_head.weight"},
};

template <decoder_shape Shape>
[[nodiscard]] constexpr std::span<const renamed> names_of() {
    if constexpr (Shape.gated()) return llama_names<Shape>;
    else return gpt2_names;
}

template <storage_format To, storage_format From>
[[nodiscard]] constexpr To rounded(From value) {
    return from_compute<To>(static_cast<compute_t<To>>(to_compute(value)));
}

/// Calls f(element of theirs, element of the store) for each pair.
template <class F>
void for_each_pair(const hugging_face_tensor& tensor, std::size_t theirs, std::size_t store, F&& f) {
    expects(static_cast<index>(theirs) == tensor.size(), [&] {
        return "hugging_face: expected the " + std::to_string(tensor.size()) + " elements of " + tensor.name + ", got " + std::to_string(theirs);
    });
    expects(tensor.offset + tensor.size() <= static_cast<index>(store), [&] {
        return "hugging_face: " + tensor.name + " lies beyond a store of " + std::to_string(store) + " elements";
    });
    for (index o = 0; o < tensor.outputs; ++o) {
        for (index i = 0; i < tensor.inputs; ++i) {
            f(static_cast<std::size_t>(tensor.transposed ? i * tensor.outputs + o : o * tensor.inputs + i),
              static_cast<std::size_t>(tensor.offset + o * tensor.inputs + i));
        }
    }
}

}  // namespace detail

template <storage_format From, storage_format To>
void from_hugging_face(const hugging_face_tensor& tensor, std::span<const From> theirs, std::span<To> store) {
    detail::for_each_pair(tensor, theirs.size(), store.size(), [&](std::size_t t, std::size_t s) { store[s] = detail::rounded<To>(theirs[t]); });
}

template <storage_format From, storage_format To>
void to_hugging_face(const hugging_face_tensor& tensor, std::span<const From> store, std::span<To> theirs) {
    detail::for_each_pair(tensor, theirs.size(), store.size(), [&](std::size_t t, std::size_t s) { theirs[t] = detail::rounded<To>(store[s]); });
}

template <class Model, class Update, class F>
void for_each_hugging_face_tensor(F&& f) {
    constexpr decoder_shape shape = Model::shape;
    if constexpr (detail::is_gpt2_or_llama<shape>()) {
        const std::string blocks = shape.gated() ? "model.layers." : "transformer.h.";
        parameter_layout<Model, Update>::for_each_place([&](const parameter_place& place, const parameter& p) {
            const std::string ours = std::string(place.owner) + place.part;
            index offset = place.offset;
            for (const detail::renamed& entry : detail::names_of<shape>()) {
                if (entry.ours != ours) continue;
                const bool vector = entry.how == detail::laid_out::vector;
                hugging_face_tensor tensor{.name = place.layer >= 0 ? blocks + std::to_string(place.layer) + "." : std::string(),
                                           .offset = offset,
                                           .outputs = entry.outputs > 0 ? entry.outputs : vector ? p.columns : p.rows,
                                           .inputs = vector ? 1 : p.columns,
                                           .vector = vector,
                                           .transposed = entry.how == detail::laid_out::transposed};
                tensor.name += entry.theirs;
                offset += tensor.size();
                f(std::as_const(tensor));
            }
        });
    }
}

}  // namespace longspan
