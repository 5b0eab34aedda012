// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <longspan/model/hugging_face.hpp>

namespace ls = longspan;

namespace {

constexpr ls::decoder_shape gpt2{.layers = 2, .width = 6, .heads = 3, .hidden = 5, .vocabulary = 11, .context = 7, .norm = ls::norm_kind::layer,
                                 .mlp = ls::mlp_kind::gelu_tanh, .positions = ls::position_kind::learned, .bias = true};
constexpr ls::decoder_shape llama{.layers = 2, .width = 6, .heads = 4, .key_value_heads = 2, .head_width = 2, .hidden = 5, .vocabulary = 11,
                                  .context = 7, .tied = false};
constexpr ls::decoder_shape biased{.layers = 1, .width = 6, .heads = 4, .key_value_heads = 2, .head_width = 2, .hidden = 5, .vocabulary = 11,
                                   .context = 7, .bias = true};

template <ls::decoder_shape Shape>
using model = ls::model_of<Shape, ls::uniform_precision<double>>;
using shapes = std::vector<std::pair<std::string, std::vector<ls::index>>>;

template <class Model>
shapes shapes_of() {
    shapes all;
    ls::for_each_hugging_face_tensor<Model>([&](const ls::hugging_face_tensor& t) { all.emplace_back(t.name, t.shape()); });
    return all;
}

/// A store whose elements are their own places, and the tensors of theirs that it makes.
template <class Model>
std::map<std::string, std::vector<double>> numbered() {
    std::vector<double> store(static_cast<std::size_t>(ls::parameter_layout<Model>::size));
    std::iota(store.begin(), store.end(), 0.0);
    std::map<std::string, std::vector<double>> all;
    ls::for_each_hugging_face_tensor<Model>([&](const ls::hugging_face_tensor& t) {
        std::vector<double>& theirs = all[t.name];
        theirs.resize(static_cast<std::size_t>(t.size()));
        ls::to_hugging_face(t, std::span<const double>(store), std::span(theirs));
    });
    return all;
}

/// The place in the store of element [row, column] of the parameter `name`.
template <class Model>
double place(const std::string& name, ls::index row, ls::index column) {
    double found = -1;
    ls::parameter_layout<Model>::for_each([&](const std::string& candidate, const ls::parameter& p, ls::index offset) {
        if (candidate == name) found = static_cast<double>(offset + row * p.columns + column);
    });
    return found;
}

template <class Model>
void goes_there_and_back() {
    const auto theirs = numbered<Model>();
    std::vector<float> store(static_cast<std::size_t>(ls::parameter_layout<Model>::size), -1.0F);
    ls::for_each_hugging_face_tensor<Model>(
        [&](const ls::hugging_face_tensor& t) { ls::from_hugging_face(t, std::span<const double>(theirs.at(t.name)), std::span(store)); });
    ls::index written = 0;
    ls::parameter_layout<Model>::for_each([&](const std::string& name, const ls::parameter& p, ls::index offset) {
        CAPTURE(name);
        for (ls::index i = offset; i < offset + p.size(); ++i) CHECK(store[static_cast<std::size_t>(i)] == static_cast<float>(i));
        written += p.size();
    });
    ls::index untouched = 0;
    for (const float x : store) untouched += x == -1.0F;
    CHECK(written + untouched == ls::parameter_layout<Model>::size);  // the padding between parameters is nobody's
}

}  // namespace

TEST_CASE("hugging face: the names and shapes of a GPT-2") {
    shapes expected{{"transformer.wte.weight", {11, 6}}, {"transformer.wpe.weight", {7, 6}}};
    for (const std::string layer : {"transformer.h.0.", "transformer.h.1."}) {
        const shapes block{{"ln_1.weight", {6}},         {"ln_1.bias", {6}},        {"attn.c_attn.weight", {6, 18}}, {"attn.c_attn.bias", {18}},
                           {"attn.c_proj.weight", {6, 6}}, {"attn.c_proj.bias", {6}}, {"ln_2.weight", {6}},            {"ln_2.bias", {6}},
                           {"mlp.c_fc.weight", {6, 5}},  {"mlp.c_fc.bias", {5}},    {"mlp.c_proj.weight", {5, 6}},   {"mlp.c_proj.bias", {6}}};
        for (const auto& [name, extents] : block) expected.emplace_back(layer + name, extents);
    }
    expected.insert(expected.end(), {{"transformer.ln_f.weight", {6}}, {"transformer.ln_f.bias", {6}}});
    CHECK(shapes_of<model<gpt2>>() == expected);
}

TEST_CASE("hugging face: the names and shapes of a Llama with grouped heads and a head of its own") {
    shapes expected{{"model.embed_tokens.weight", {11, 6}}};
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
        const shapes block{{"input_layernorm.weight", {6}},       {"self_attn.q_proj.weight", {8, 6}}, {"self_attn.k_proj.weight", {4, 6}},
                           {"self_attn.v_proj.weight", {4, 6}},   {"self_attn.o_proj.weight", {6, 8}}, {"post_attention_layernorm.weight", {6}},
                           {"mlp.gate_proj.weight", {5, 6}},      {"mlp.up_proj.weight", {5, 6}},      {"mlp.down_proj.weight", {6, 5}}};
        for (const auto& [name, extents] : block) expected.emplace_back(layer + name, extents);
    }
    expected.insert(expected.end(), {{"model.norm.weight", {6}}, {"lm_head.weight", {11, 6}}});
    CHECK(shapes_of<model<llama>>() == expected);
}

TEST_CASE("hugging face: every element has one place in theirs") {
    goes_there_and_back<model<gpt2>>();
    goes_there_and_back<model<llama>>();
    goes_there_and_back<model<biased>>();
}

TEST_CASE("hugging face: weights in bf16 are read as they are, floats rounded once; offsets are those of the update's layout") {
    using update = std::remove_cvref_t<decltype(ls::moments<ls::eight_bit>.without_masters())>;
    using layout = ls::parameter_layout<model<llama>, update>;
    std::vector<ls::bf16> store(static_cast<std::size_t>(layout::size), ls::bf16(0.0F));
    const float between = 1 + 0x1.8p-8F;  // nearer to 1 + 2^-7
    ls::for_each_hugging_face_tensor<model<llama>, update>([&](const ls::hugging_face_tensor& t) {
        const std::vector<float> theirs(static_cast<std::size_t>(t.size()), between);
        ls::from_hugging_face(t, std::span<const float>(theirs), std::span(store));
        std::vector<ls::bf16> back(theirs.size());
        ls::to_hugging_face(t, std::span<const ls::bf16>(store), std::span(back));
        bool same = true;
        for (const ls::bf16 x : back) same = same && static_cast<float>(x) == 1 + 0x1p-7F;
        CHECK(same);
    });
    layout::for_each([&](const std::string&, const ls::parameter& p, ls::index offset) {
        CHECK(static_cast<float>(store[static_cast<std::size_t>(offset)]) > 1);
        CHECK(static_cast<float>(store[static_cast<std::size_t>(offset + p.size() - 1)]) > 1);
    });
}

TEST_CASE("hugging face: GPT-2's projections lie transposed, its tables do not") {
    using m = model<gpt2>;
    const auto theirs = numbered<m>();
    const std::string layer = "transformer.h.1.";
    CHECK(theirs.at(layer + "attn.c_attn.weight")[4 * 18 + 13] == place<m>("blocks.1.attention.qkv.weight", 13, 4));
    CHECK(theirs.at(layer + "attn.c_attn.bias")[13] == place<m>("blocks.1.attention.qkv.bias", 0, 13));
    CHECK(theirs.at(layer + "mlp.c_fc.weight")[4 * 5 + 3] == place<m>("blocks.1.mlp.in.weight", 3, 4));
    CHECK(theirs.at(layer + "mlp.c_proj.weight")[3 * 6 + 4] == place<m>("blocks.1.mlp.out.weight", 4, 3));
    CHECK(theirs.at("transformer.wte.weight")[9 * 6 + 2] == place<m>("embedding.weight", 9, 2));
    CHECK(theirs.at("transformer.wpe.weight")[5 * 6 + 1] == place<m>("position.weight", 5, 1));
}

TEST_CASE("hugging face: Llama's queries, keys and values follow each other, and so do gate and up") {
    using m = model<biased>;
    const auto theirs = numbered<m>();
    const std::string layer = "model.layers.0.";
    CHECK(theirs.at(layer + "self_attn.q_proj.weight")[7 * 6 + 5] == place<m>("blocks.0.attention.qkv.weight", 7, 5));
    CHECK(theirs.at(layer + "self_attn.k_proj.weight")[1 * 6 + 5] == place<m>("blocks.0.attention.qkv.weight", 8 + 1, 5));
    CHECK(theirs.at(layer + "self_attn.v_proj.weight")[3 * 6 + 2] == place<m>("blocks.0.attention.qkv.weight", 12 + 3, 2));
    CHECK(theirs.at(layer + "self_attn.v_proj.bias")[3] == place<m>("blocks.0.attention.qkv.bias", 0, 12 + 3));
    CHECK(theirs.at(layer + "mlp.gate_proj.weight")[4 * 6 + 1] == place<m>("blocks.0.mlp.in.weight", 4, 1));
    CHECK(theirs.at(layer + "mlp.up_proj.weight")[4 * 6 + 1] == place<m>("blocks.0.mlp.in.weight", 5 + 4, 1));
    CHECK(theirs.at(layer + "mlp.up_proj.bias")[2] == place<m>("blocks.0.mlp.in.bias", 0, 5 + 2));
    CHECK(!theirs.contains("lm_head.weight"));  // tied
}

TEST_CASE("hugging face: a tensor of another size, or beyond the store, is refused in a sentence") {
    const ls::hugging_face_tensor tensor{.name = "transformer.wpe.weight", .offset = 4, .outputs = 2, .inputs = 3};
    std::vector<float> theirs(6), store(10);
    CHECK_NOTHROW(ls::from_hugging_face(tensor, std::span<const float>(theirs), std::span(store)));
    const auto refusal = [&] {
        try {
            ls::from_hugging_face(tensor, std::span<const float>(theirs), std::span(store));
        } catch (const ls::bad_argument& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    store.resize(9);
    CHECK(refusal() == "hugging_face: transformer.wpe.weight lies beyond a store of 9 elements");
    theirs.resize(5);
    CHECK(refusal() == "hugging_face: expected the 6 elements of transformer.wpe.weight, got 5");
}
