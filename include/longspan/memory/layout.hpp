// SPDX-License-Identifier: Apache-2.0
//
// How the bytes of a step add up, as a value. A layout is a tree: `region` is one tensor, `together` holds its children at the
// same time, one after the other; `either` holds one child at a time, in the same place. So the peak is a sum over `together`
// and a maximum over `either`, known before anything runs:
//
//     together(region("input", 4 * t * c), either(forward_scratch(t), backward_scratch(t)), head(t)).peak(64)
//
// It is a constexpr function of values (tokens, widths, a policy's k), so a search over budgets instantiates nothing.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <longspan/core/types.hpp>

namespace longspan {

enum class layout_kind : unsigned char { region, together, either };

/// What it takes to make a tensor again, in the order of what it is worth to keep it instead. A checkpointing policy keeps what is
/// worth at least so much and makes the rest again in the backward.
enum class cost : unsigned char {
    pass,       ///< a pass over memory, which the backward makes anyway: a norm's statistics
    expansion,  ///< a dense product several times as wide as what it reads: of all tensors, the most bytes for one op
    product,    ///< a dense product
    attention,  ///< attention: grows with the documents' length, in time but not in bytes
    output,     ///< what a block hands on. Nothing of a block's own is worth as much: to keep from here on is to keep nothing
};

/// One node of a layout in preorder. `nodes` counts the node and all below it.
struct layout_node {
    layout_kind kind = layout_kind::together;
    std::string_view name;
    bytes size = 0;   ///< bytes asked by a region, before alignment; 0 for inner nodes
    index times = 1;  ///< how many of it lie side by side
    index nodes = 1;
    cost worth = cost::pass;  ///< of a region: what the tensor, or for scratch the tensor that is made in it, takes to make again
};

namespace detail {

/// The peak of the subtree that starts at `node`, each region rounded up to `alignment`.
constexpr bytes peak_of(const layout_node* node, bytes alignment) {
    if (node->kind == layout_kind::region) return node->times * round_up(node->size, alignment);
    bytes total = 0;
    for (index child = 1; child < node->nodes; child += node[child].nodes) {
        const bytes size = peak_of(node + child, alignment);
        if (node->kind == layout_kind::together) total += size;
        else if (size > total) total = size;
    }
    return node->times * total;
}

}  // namespace detail

/// A tree of regions; lives within one constant evaluation or at run time. `fixed_layout` is its storable form.
class layout {
public:
    constexpr layout() : nodes_(1) {}
    constexpr explicit layout(layout_node leaf) : nodes_(1, leaf) {}

    /// An inner node over copies of `children`. Constant evaluation is slow and nodes are copied at every level, so they are copied once.
    template <class... Layouts>
    constexpr layout(layout_kind kind, std::string_view name, const Layouts&... children) {
        nodes_.reserve(1 + (std::size_t{0} + ... + children.nodes_.size()));
        nodes_.push_back({kind, name});
        (add(children), ...);
    }

    /// Appends a child to this inner node.
    constexpr void add(const layout& child) {
        for (const layout_node& node : child.nodes_) nodes_.push_back(node);
        nodes_[0].nodes += static_cast<index>(child.nodes_.size());
    }

    /// The same, `times` times side by side; its name becomes `name` when one is given.
    [[nodiscard]] constexpr layout repeated(index times, std::string_view name = {}) const {
        layout result = *this;
        result.nodes_[0].times *= times;
        if (!name.empty()) result.nodes_[0].name = name;
        return result;
    }

    /// The same, where regions take no bytes unless wanted(what they are worth).
    template <class Wanted>
        requires requires(Wanted wanted) { wanted(cost::pass) ? 1 : 0; }
    [[nodiscard]] constexpr layout only(Wanted&& wanted) const {
        layout result = *this;
        for (layout_node& node : result.nodes_) {
            if (!wanted(node.worth)) node.size = 0;
        }
        return result;
    }

    /// The most bytes that are held at once when every region is rounded up to `alignment` bytes.
    [[nodiscard]] constexpr bytes peak(bytes alignment) const { return detail::peak_of(nodes_.data(), alignment); }

    [[nodiscard]] constexpr const std::vector<layout_node>& nodes() const { return nodes_; }

private:
    std::vector<layout_node> nodes_;
};

/// One tensor of `size` bytes.
[[nodiscard]] constexpr layout region(std::string_view name, bytes size, cost worth = cost::pass) {
    return layout(layout_node{layout_kind::region, name, size, 1, 1, worth});
}

/// All of them at the same time.
template <class... Layouts>
[[nodiscard]] constexpr layout together(std::string_view name, const Layouts&... children) {
    return layout(layout_kind::together, name, children...);
}

/// One of them at a time, in the same bytes.
template <class... Layouts>
[[nodiscard]] constexpr layout either(std::string_view name, const Layouts&... children) {
    return layout(layout_kind::either, name, children...);
}

/// A layout of N nodes that may be a constexpr variable (a vector may not outlive its constant evaluation in C++20).
template <index N>
struct fixed_layout {
    layout_node nodes[static_cast<std::size_t>(N)];
    [[nodiscard]] constexpr bytes peak(bytes alignment) const { return detail::peak_of(nodes, alignment); }
};

/// Evaluates `Make` (a captureless constexpr callable which returns a layout) at compile time and keeps the result.
template <auto Make>
[[nodiscard]] consteval auto freeze() {
    constexpr index count = static_cast<index>(Make().nodes().size());
    fixed_layout<count> result{};
    const layout made = Make();
    for (index i = 0; i < count; ++i) result.nodes[i] = made.nodes()[static_cast<std::size_t>(i)];
    return result;
}

}  // namespace longspan
