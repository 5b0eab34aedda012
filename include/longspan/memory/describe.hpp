// SPDX-License-Identifier: Apache-2.0
//
// A plan as a table: where every byte of a step goes. One line a region or group, indented by nesting; of alternatives, which
// share their bytes, the largest is marked with *, and the others show what they would need.
#pragma once

#include <string>

#include <longspan/core/types.hpp>
#include <longspan/memory/layout.hpp>

namespace longspan {

namespace detail {

/// "12,345,678".
inline std::string grouped_bytes(bytes value) {
    std::string digits = std::to_string(value);
    for (std::size_t i = digits.size(); i > 3;) digits.insert(i -= 3, ",");
    return digits;
}

inline void describe_node(const layout_node* node, bytes alignment, int depth, bool chosen, std::string& out) {
    const bool group = node->kind != layout_kind::region;
    // Groups without a name only structure the sum; their children stand in their place.
    if (!node->name.empty()) {
        std::string label(static_cast<std::size_t>(2 * depth), ' ');
        label += chosen ? "* " : "";
        label += node->name;
        if (node->times > 1) label += " × " + std::to_string(node->times);
        if (node->kind == layout_kind::either) label += " (one at a time)";
        std::size_t width = 0;  // of the text in characters, not in bytes of UTF-8
        for (const char c : label) width += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u ? 1 : 0;
        const std::string size = grouped_bytes(peak_of(node, alignment));
        out += label + std::string(width < 50 ? 50 - width : 1, ' ') + std::string(size.size() < 18 ? 18 - size.size() : 1, ' ') + size + "\n";
    }
    if (!group) return;
    const layout_node* largest = nullptr;
    if (node->kind == layout_kind::either) {
        for (index child = 1; child < node->nodes; child += node[child].nodes) {
            if (!largest || peak_of(node + child, alignment) > peak_of(largest, alignment)) largest = node + child;
        }
    }
    for (index child = 1; child < node->nodes; child += node[child].nodes) {
        if (peak_of(node + child, alignment) == 0) continue;
        describe_node(node + child, alignment, depth + (node->name.empty() ? 0 : 1), node + child == largest, out);
    }
}

}  // namespace detail

/// The table of a plan, in bytes as they lie in the arena; below it what is taken elsewhere.
template <class Plan>
    requires requires(const Plan& plan) { plan.tree.nodes; plan.alignment; }
[[nodiscard]] std::string describe(const Plan& plan) {
    std::string out;
    detail::describe_node(plan.tree.nodes, plan.alignment, 0, false, out);
    if constexpr (requires { plan.pinned; }) {
        const layout_node away{layout_kind::region, "beside it, pinned host memory", plan.pinned};
        if (plan.pinned > 0) detail::describe_node(&away, plan.alignment, 0, false, out);
    }
    if constexpr (requires { plan.norm; }) {
        if (plan.norm.second_pass > 0) {
            out += "a global norm takes " + detail::grouped_bytes(plan.norm.gradients) + " bytes more, gradients kept whole (" +
                   detail::grouped_bytes(plan.norm.bf16_gradients) + " in bf16), or a second pass of " +
                   detail::grouped_bytes(static_cast<bytes>(plan.norm.second_pass)) + " operations a token\n";
        }
    }
    return out;
}

}  // namespace longspan
