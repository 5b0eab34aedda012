// SPDX-License-Identifier: Apache-2.0
//
// What the selective policies keep of real blocks. Plan and bits are recompute.cpp's.
#include <doctest/doctest.h>

#include "../model/configs.hpp"

namespace models {

TEST_CASE("selective: kept beside the stream, a token and a block") {
    using memory = decoder_memory<model_of<llama, std::remove_cvref_t<decltype(mixed<bf16>)>>, pattern_of<causal>, host::cpu>;
    const stack_bytes stack = memory::stack(100);
    const auto kept = [&](cost from) { return stack.saved.only([&](cost worth) { return worth >= from; }).peak(1); };
    const index c = llama.width, q = llama.query_width(), v = 2 * llama.key_value_width(), f = llama.hidden, h = llama.heads;
    const bytes attention = 100 * (2 * q + 4 * h);
    CHECK(kept(cost::attention) == attention);
    CHECK(kept(cost::product) == attention + 100 * 2 * (q + v + c));
    CHECK(kept(cost::expansion) == attention + 100 * 2 * (q + v + c + 2 * f));
    CHECK(kept(cost::pass) == stack.saved.peak(1));
    CHECK(kept(cost::output) == 0);
}

}  // namespace models
