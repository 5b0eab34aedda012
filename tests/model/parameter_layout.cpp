// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

#include <longspan/model/parameter_layout.hpp>
#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

constexpr ls::decoder_shape shape{.layers = 2, .width = 12, .heads = 3, .hidden = 20, .vocabulary = 30, .context = 9, .norm = ls::norm_kind::layer,
                                  .mlp = ls::mlp_kind::gelu, .positions = ls::position_kind::learned, .bias = true, .tied = false};
using layout = ls::parameter_layout<ls::model_of<shape, ls::uniform_precision<float>>>;
using halves = ls::parameter_layout<ls::model_of<shape, std::remove_cvref_t<decltype(ls::mixed<ls::bf16>)>>>;

}  // namespace

TEST_CASE("parameter layout: names in the order of the store, end to end") {
    const std::vector<std::string> block{"attention.norm.weight", "attention.norm.bias", "attention.qkv.weight", "attention.qkv.bias",
                                         "attention.out.weight", "attention.out.bias", "mlp.norm.weight", "mlp.norm.bias", "mlp.in.weight",
                                         "mlp.in.bias", "mlp.out.weight", "mlp.out.bias"};
    std::vector<std::string> expected{"embedding.weight", "position.weight"};
    for (const char* layer : {"blocks.0.", "blocks.1."}) {
        for (const std::string& name : block) expected.push_back(layer + name);
    }
    for (const char* name : {"head.norm.weight", "head.norm.bias", "head.weight"}) expected.push_back(name);

    std::vector<std::string> names;
    ls::index next = 0, count = 0;
    layout::for_each([&](const std::string& name, const ls::parameter& p, ls::index offset) {
        names.push_back(name);
        CHECK(offset == next);
        next = offset + ls::round_up(p.size(), ls::parameter_alignment);
        count += p.size();
    });
    CHECK(names == expected);
    CHECK(next == layout::size);
    CHECK(count == layout::count);
    CHECK(layout::count == 30 * 12 + 9 * 12 + 2 * (4 * 12 + 36 * 12 + 36 + 144 + 12 + 2 * 240 + 20 + 12) + 24 + 360);

    std::vector<std::string> places;
    layout::for_each_place([&](const ls::parameter_place& place, const ls::parameter&) { places.push_back(place.name()); });
    CHECK(places == expected);
    CHECK(layout::block_offset(1) - layout::block_offset(0) == layout::block::size);
    CHECK(layout::block_offset(2) == layout::head_offset);
}

TEST_CASE("parameter layout: bytes a parameter, by precision") {
    // and a mark in each 128 whether they decay
    CHECK(layout::memory().peak(1) == layout::size * 16 + layout::size / 128);
    CHECK(halves::memory().peak(1) == halves::size * 18 + halves::size / 128);
    CHECK(halves::size == layout::size);
}
