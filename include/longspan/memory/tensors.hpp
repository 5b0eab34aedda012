// SPDX-License-Identifier: Apache-2.0
//
// Tables of tensors, known at compile time. A layer declares what it saves and what it needs in passing as a constexpr list of
// {name, role, columns}, every one [tokens, columns]; the precision policy turns roles into formats. From one table come the
// bytes in the plan, the regions taken from the arena, and the typed views which the layer computes on:
//
//     struct saved_table {
//         static constexpr std::array list{tensor{"rstd", role::statistic, 1}, tensor{"qkv", role::saved, 768, cost::product}};
//     };
//     tensors<precision, saved_table> saved{arena, tokens};
//     saved.get<"qkv">()      // matrix_view<storage_of<precision, role::saved>>, [tokens, 768]
//
// A tensor with 0 columns takes no bytes: how a table leaves out what an option does not need. Several alike stand side by side under one
// name, each a region of its own: get<"qkv">(3). A table of what a layer saves may be held in two parts, what a policy keeps and, above it
// and for less long, the rest: `hold(arena, tokens, cost)` and `hold_rest()`.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/memory/layout.hpp>
#include <longspan/precision/policy.hpp>

namespace longspan {

/// A string literal as a template argument.
template <std::size_t N>
struct fixed_string {
    char text[N];
    // Implicit: get<"name">() is the point of it.
    consteval fixed_string(const char (&literal)[N]) {
        for (std::size_t i = 0; i < N; ++i) text[i] = literal[i];
    }
    [[nodiscard]] constexpr std::string_view view() const { return {text, N - 1}; }
};

/// A [tokens, columns] tensor of a layer.
struct tensor {
    const char* name = "";
    role stored_as = role::activation;
    index columns = 0;
    cost worth = cost::pass;  ///< what it takes to make it again; of scratch, the cost of the tensor for whose making it is there
};

/// Bytes of one element in the format that Precision gives to a role.
template <precision_policy Precision>
[[nodiscard]] constexpr bytes element_bytes(role stored_as) {
    switch (stored_as) {
        case role::weight: return bytes_of<Precision, role::weight>;
        case role::activation: return bytes_of<Precision, role::activation>;
        case role::saved: return bytes_of<Precision, role::saved>;
        case role::gradient: return bytes_of<Precision, role::gradient>;
        case role::residual: return bytes_of<Precision, role::residual>;
        case role::statistic: return bytes_of<Precision, role::statistic>;
        case role::parameter_gradient: return bytes_of<Precision, role::parameter_gradient>;
        case role::master: return bytes_of<Precision, role::master>;
        case role::moment: return bytes_of<Precision, role::moment>;
    }
    return 0;
}

/// Where `Name` stands in a table's list (of tensors or parameters); a name that is not there does not compile.
template <class Table, fixed_string Name>
[[nodiscard]] consteval std::size_t position_in() {
    for (std::size_t i = 0; i < Table::list.size(); ++i) {
        if (std::string_view(Table::list[i].name) == Name.view()) return i;
    }
    throw "no tensor of this name in the table";
}

/// The table's tensors for `tokens` tokens, held together. Neighbours of one name, which are alike, are one node.
template <precision_policy Precision, class Table>
[[nodiscard]] constexpr layout layout_of(std::string_view name, index tokens) {
    layout result = together(name);
    constexpr std::size_t count = Table::list.size();
    for (std::size_t i = 0, end = 0; i < count; i = end) {
        const tensor& t = Table::list[i];
        for (end = i + 1; end < count && std::string_view(Table::list[end].name) == t.name;) ++end;
        if (t.columns == 0) continue;
        const layout one = region(t.name, tokens * t.columns * element_bytes<Precision>(t.stored_as), t.worth);
        result.add(one.repeated(static_cast<index>(end - i)));
    }
    return result;
}

/// The tensors of a table, taken from an arena for as long as this lives.
template <precision_policy Precision, class Table>
class tensors {
    static constexpr std::size_t count = Table::list.size();

public:
    tensors() = default;
    tensors(arena& in, index tokens) { hold(in, tokens); }
    tensors(const tensors&) = delete;
    tensors& operator=(const tensors&) = delete;
    ~tensors() { drop(); }

    /// Takes the regions of the tensors that are worth at least `from`, in the order of the table. Throws out_of_memory, and then holds
    /// nothing.
    void hold(arena& in, index tokens, cost from = cost::pass) {
        drop();
        in_ = &in;
        tokens_ = tokens;
        from_ = from;
        take(true, kept_);
    }
    /// Takes the regions of the others, too.
    void hold_rest() {
        drop_rest();
        take(false, rest_);
    }
    void drop_rest() noexcept { give(false, rest_); }
    /// Gives all back, last first.
    void drop() noexcept {
        drop_rest();
        give(true, kept_);
    }

    /// Calls f(where it lies here, where it lies there, its bytes) for every tensor that is kept here and there; not for the others.
    template <class F>
    void with_kept_of(const tensors& there, F&& f) const {
        for (std::size_t i = 0; i < count; ++i) {
            const tensor& t = Table::list[i];
            if (belongs(t, true)) f(at_[i], there.at_[i], size(t));
        }
    }

    /// The tensor of that name, [tokens, columns]; without data when it has no columns. Of several alike, which stand side by side in the
    /// table, the one of that number.
    template <fixed_string Name>
    [[nodiscard]] auto get(index number = 0) const {
        constexpr std::size_t i = position_in<Table, Name>();
        using element = storage_of<Precision, Table::list[i].stored_as>;
        return matrix_view<element>(reinterpret_cast<element*>(at_[i + static_cast<std::size_t>(number)]), tokens_, Table::list[i].columns);
    }

private:
    [[nodiscard]] bytes size(const tensor& t) const { return tokens_ * t.columns * element_bytes<Precision>(t.stored_as); }
    [[nodiscard]] bool belongs(const tensor& t, bool kept) const { return t.columns > 0 && (t.worth >= from_) == kept; }

    /// Takes a part's regions; `held` counts the places of the table that were passed.
    void take(bool kept, std::size_t& held) {
        try {
            for (; held < count; ++held) {
                const tensor& t = Table::list[held];
                if (belongs(t, kept)) at_[held] = in_->acquire(t.name, size(t));
            }
        } catch (...) {
            give(kept, held);
            throw;
        }
    }
    void give(bool kept, std::size_t& held) noexcept {
        for (; held > 0; --held) {
            const tensor& t = Table::list[held - 1];
            if (belongs(t, kept)) in_->release(t.name, at_[held - 1], size(t));
        }
    }

    arena* in_ = nullptr;
    index tokens_ = 0;
    cost from_ = cost::pass;
    std::size_t kept_ = 0, rest_ = 0;
    std::array<std::byte*, count> at_{};
};

}  // namespace longspan
