// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a model in memory, with all that training keeps beside them: weights as the forward pass reads them,
// masters where weights are stored narrower, sums of gradients, and the optimizer's two moments. Runs of
// `parameter_layout::size` elements at the bottom of the arena, in the formats of the precision policy and of config.update; names are
// views into them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <longspan/core/error.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/model/parameter_layout.hpp>
#include <longspan/precision/update_run.hpp>

namespace longspan {

/// Holds its regions for as long as it lives; everything else on the arena must be given back before.
template <class Model, class Update = update_storage<>>
class parameter_store {
public:
    using layout_type = parameter_layout<Model, Update>;
    using precision = typename Model::precision;
    using weight = typename Model::template storage<role::weight>;
    static constexpr bool has_master = layout_type::has_master, in_eight_bits = layout_type::in_eight_bits;
    using master = std::conditional_t<has_master, typename Model::template storage<role::master>, weight>;
    using gradient = typename Model::template storage<role::parameter_gradient>;
    /// What sums of gradients are stored as.
    using gradient_sum = std::conditional_t<Update::in_bf16, bf16, gradient>;
    using moment = typename layout_type::moment;
    /// What a moment lies in memory as: its code, in eight bits.
    using stored_moment = std::conditional_t<in_eight_bits, std::uint8_t, moment>;
    static constexpr index size = layout_type::size;

    explicit parameter_store(arena& memory)
        : weights_(memory, "weights", size * static_cast<bytes>(sizeof(weight))),
          decays_(memory, "decay groups", layout_type::groups),
          masters_(memory, "master weights", has_master ? size * static_cast<bytes>(sizeof(master)) : 0),
          sums_(memory, "sums of gradients", Update::in_bf16 ? size * static_cast<bytes>(sizeof(gradient_sum)) : 0),
          gradients_(memory, layout_type::gradients_name, layout_type::gradient_size * static_cast<bytes>(sizeof(gradient))),
          first_(memory, "first moments", size * static_cast<bytes>(sizeof(stored_moment))),
          first_scales_(memory, "scales", scales * static_cast<bytes>(sizeof(float))),
          second_(memory, "second moments", size * static_cast<bytes>(sizeof(stored_moment))),
          second_scales_(memory, "scales", scales * static_cast<bytes>(sizeof(float))) {}

    [[nodiscard]] std::span<weight> weights() { return span<weight>(weights_); }
    [[nodiscard]] std::span<const weight> weights() const { return span<const weight>(weights_); }
    /// The parameters as the optimizer keeps them; the weights themselves where they have no master.
    [[nodiscard]] std::span<master> masters() {
        if constexpr (has_master) return span<master>(masters_);
        else return span<master>(weights_);
    }
    /// Sums over micro-batches, of the whole store; by bucket of one at a time.
    [[nodiscard]] std::span<gradient_sum> gradients() {
        if constexpr (Update::in_bf16) return span<gradient_sum>(sums_);
        else return gradient_room();
    }
    /// Where a backward makes gradients (parameter_layout::gradient_offset).
    [[nodiscard]] std::span<gradient> gradient_room() {
        return {gradients_.as<gradient>(), static_cast<std::size_t>(layout_type::gradient_size)};
    }
    /// One bucket's there.
    [[nodiscard]] std::span<gradient> bucket_room(index bucket) {
        return gradient_room().subspan(static_cast<std::size_t>(layout_type::gradient_offset(bucket)),
                                       static_cast<std::size_t>(layout_type::bucket_size(bucket)));
    }
    [[nodiscard]] std::span<stored_moment> first_moments() { return span<stored_moment>(first_); }
    [[nodiscard]] std::span<stored_moment> second_moments() { return span<stored_moment>(second_); }
    /// Of moments in eight bits, one for every 256 elements; empty otherwise.
    [[nodiscard]] std::span<float> first_scales() { return {first_scales_.as<float>(), static_cast<std::size_t>(scales)}; }
    [[nodiscard]] std::span<float> second_scales() { return {second_scales_.as<float>(), static_cast<std::size_t>(scales)}; }

    /// What an update reads and writes: of the whole store, or of one bucket.
    [[nodiscard]] auto run() { return run_of(0, size, gradients().data()); }
    [[nodiscard]] auto bucket_run(index bucket) {
        return run_of(layout_type::bucket_offset(bucket), layout_type::bucket_size(bucket), bucket_room(bucket).data());
    }

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

    template <class G>
    [[nodiscard]] auto run_of(index begin, index count, const G* gradients) {
        using kept = std::conditional_t<has_master || !precision::has_master, typename Model::template storage<role::master>, void>;
        using copy = std::conditional_t<has_master || std::is_void_v<kept>, weight, void>;
        update_run<kept, copy, G, moment> run;
        if constexpr (!std::is_void_v<kept>) run.masters = masters().data() + begin;
        if constexpr (!std::is_void_v<copy>) run.weights = weights().data() + begin;
        run.gradients = gradients;
        if constexpr (in_eight_bits) {
            run.first = moment_run<moment>{first_moments().data(), first_scales().data()}.from(begin);
            run.second = moment_run<moment>{second_moments().data(), second_scales().data()}.from(begin);
        } else {
            run.first = moment_run<moment>{first_moments().data()}.from(begin);
            run.second = moment_run<moment>{second_moments().data()}.from(begin);
        }
        run.decays = decays().data() + begin / parameter_alignment;
        run.begin = begin;
        run.size = count;
        return run;
    }

    static constexpr index scales = in_eight_bits ? size / eight_bit::block : 0;
    held_region weights_, decays_, masters_, sums_, gradients_, first_, first_scales_, second_, second_scales_;
};

}  // namespace longspan
