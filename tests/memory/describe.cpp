// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/memory/describe.hpp>

namespace ls = longspan;
using ls::either, ls::region, ls::together;

namespace {

template <ls::index N>
struct small_plan {
    ls::fixed_layout<N> tree;
    ls::bytes alignment = 64;
};
constexpr auto make = [] {
    return together("step", region("weights", 1'234'500), together("", region("input", 64), region("nothing", 0)).repeated(1),
                    either("pass", together("forward", region("x", 10)), region("backward × 2", 128)), region("block", 64).repeated(3));
};

}  // namespace

TEST_CASE("describe: one line a region, groups without a name dissolved, the largest alternative marked") {
    constexpr auto tree = ls::freeze<make>();
    const small_plan<sizeof(tree.nodes) / sizeof(ls::layout_node)> plan{tree};
    const auto line = [](const std::string& label, std::size_t width, const std::string& size) {
        return label + std::string(50 - width + 18 - size.size(), ' ') + size + "\n";
    };
    CHECK(ls::describe(plan) == line("step", 4, "1,234,944") + line("  weights", 9, "1,234,560") + line("  input", 7, "64") +
                                    line("  pass (one at a time)", 22, "128") + line("    forward", 11, "64") + line("      x", 7, "64") +
                                    line("    * backward × 2", 18, "128") + line("  block × 3", 11, "192"));
}

TEST_CASE("describe: what is pinned stands below the arena's table") {
    struct {
        ls::fixed_layout<1> tree{{{ls::layout_kind::region, "step", 64}}};
        ls::bytes alignment = 64, pinned = 1234;
    } plan;
    const std::string arena = "step" + std::string(46 + 16, ' ') + "64\n";
    CHECK(ls::describe(plan) == arena + "beside it, pinned host memory" + std::string(21 + 13, ' ') + "1,280\n");
    plan.pinned = 0;
    CHECK(ls::describe(plan) == arena);
}

TEST_CASE("describe: bytes in groups of three") {
    CHECK(ls::detail::grouped_bytes(0) == "0");
    CHECK(ls::detail::grouped_bytes(999) == "999");
    CHECK(ls::detail::grouped_bytes(1000) == "1,000");
    CHECK(ls::detail::grouped_bytes(1234567890123) == "1,234,567,890,123");
}
