// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a model in memory, with all that training keeps beside them: weights as the forward pass reads them,
// masters where weights are stored narrower, sums of gradients, and the optimizer's two moments. Five runs of
// `parameter_layout::size` elements at the bottom of the arena; names are views into them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <longspan/core/error.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/model/parameter_layout.hpp>

namespace longspan {

/// Holds its regions for as long as it lives; everything else on the arena must be given back before.
template <class Model>
class parameter_store {
public:
    using layout_type = parameter_layout<Model>;
    using precision = typename Model::precision;
    using weight = typename Model::template storage<role::weight>;
    using master = typename Model::template storage<role::master>;
    using gradient = typename Model::template storage<role::parameter_gradient>;
    using moment = typename Model::template storage<role::moment>;
    static constexpr index size = layout_type::size;
    static_assert(precision::has_master || std::is_same_v<weight, master>, "without a master, the weight is the master");

    explicit parameter_store(arena& memory)
        : weights_(memory, "weights", size * static_cast<bytes>(sizeof(weight))),
          decays_(memory, "decay groups", layout_type::groups),
          masters_(memory, "master weights", precision::has_master ? size * static_cast<bytes>(sizeof(master)) : 0),
          gradients_(memory, "gradients", size * static_cast<bytes>(sizeof(gradient))),
          first_(memory, "first moments", size * static_cast<bytes>(sizeof(moment))),
          second_(memory, "second moments", size * static_cast<bytes>(sizeof(moment))) {}

    [[nodiscard]] std::span<weight> weights() { return span<weight>(weights_); }
    [[nodiscard]] std::span<const weight> weights() const { return span<const weight>(weights_); }
    /// The parameters as the optimizer keeps them; the weights themselves where the policy has no master.
    [[nodiscard]] std::span<master> masters() {
        if constexpr (precision::has_master) return span<master>(masters_);
        else return span<master>(weights_);
    }
    [[nodiscard]] std::span<gradient> gradients() { return span<gradient>(gradients_); }
    [[nodiscard]] std::span<moment> first_moments() { return span<moment>(first_); }
    [[nodiscard]] std::span<moment> second_moments() { return span<moment>(second_); }

    /// A byte for every 128 elements: which of them decay (parameter_layout::mark_decay).
    [[nodiscard]] std::span<std::uint8_t> decays() { return {decays_.as<std::uint8_t>(), static_cast<std::size_t>(layout_type::groups)}; }

    /// The elements of `all` (one of the runs above) that belong to the parameter `name`, e.g. "blocks.0.mlp.in.weight".
    /// Throws bad_argument when the model has no such parameter.
    template <class T>
    [[nodiscard]] static std::span<T> part(std::span<T> all, std::string_view name) {
        std::span<T> found;
        layout_type::for_each([&](const std::string& candidate, const parameter& p, index offset) {
            if (candidate == name) found = all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(p.size()));
        });
        expects(!found.empty(), [&] { return "the model has no parameter '" + std::string(name) + "'"; });
        return found;
    }

private:
    template <class T>
    [[nodiscard]] static std::span<T> span(const held_region& region) {
        return {region.as<std::remove_const_t<T>>(), static_cast<std::size_t>(size)};
    }

    held_region weights_, decays_, masters_, gradients_, first_, second_;
};

}  // namespace longspan
