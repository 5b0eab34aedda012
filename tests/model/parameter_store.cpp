// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <type_traits>

#include <longspan/model/parameter_store.hpp>
#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

constexpr ls::decoder_shape shape{.layers = 2, .width = 12, .heads = 3, .hidden = 20, .vocabulary = 30, .context = 9};
using single = ls::model_of<shape, ls::uniform_precision<float>>;
using half = ls::model_of<shape, std::remove_cvref_t<decltype(ls::mixed<ls::fp16>)>>;

}  // namespace

TEST_CASE("parameter store: takes what its layout says; without a master the weights are the masters") {
    ls::arena memory(1 << 20);
    {
        ls::parameter_store<single> store(memory);
        CHECK(memory.used() == ls::parameter_layout<single>::memory().peak(ls::host_alignment));
        CHECK(store.masters().data() == store.weights().data());
        CHECK(static_cast<ls::index>(store.gradients().size()) == ls::parameter_layout<single>::size);
        CHECK(store.first_moments().data() != store.second_moments().data());
    }
    CHECK(memory.used() == 0);
    ls::parameter_store<half> store(memory);
    CHECK(memory.used() == ls::parameter_layout<half>::memory().peak(ls::host_alignment));
    static_assert(std::is_same_v<decltype(store.weights())::element_type, ls::fp16>);
    static_assert(std::is_same_v<decltype(store.masters())::element_type, float>);
    CHECK(static_cast<const void*>(store.masters().data()) != static_cast<const void*>(store.weights().data()));
    CHECK(memory.in_order());
}

TEST_CASE("parameter store: a name is a view, and a name that is none is named back") {
    ls::arena memory(1 << 20);
    ls::parameter_store<single> store(memory);
    const auto part = store.part(store.weights(), "blocks.1.mlp.in.weight");
    CHECK(part.size() == 2 * 20 * 12);
    using layout = ls::parameter_layout<single>;
    CHECK(part.data() == store.weights().data() + layout::block_offset(1) + layout::block::mlp_offset + 128);
    CHECK(store.part(store.gradients(), "embedding.weight").data() == store.gradients().data());
    std::string sentence;
    try {
        (void)store.part(store.weights(), "blocks.2.mlp.in.weight");
    } catch (const ls::bad_argument& e) {
        sentence = e.what();
    }
    CHECK(sentence == "the model has no parameter 'blocks.2.mlp.in.weight'");
    CHECK_THROWS_AS((void)store.part(store.weights(), "position.weight"), ls::bad_argument);  // an option that is off
}
