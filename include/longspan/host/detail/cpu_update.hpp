// SPDX-License-Identifier: Apache-2.0
//
// The update of host/cpu.hpp: which of the two ops a store's formats take.
#pragma once

#include <longspan/host/cpu.hpp>

namespace longspan::host {

template <class Master, class Weight, class G, class Moment>
void cpu::update(const update_run<Master, Weight, G, Moment>& run, const adamw_update* updates, const rounding_source& source,
                 const int* apply) {
    if (*apply == 0) return;
    if constexpr (std::is_void_v<Master> || !std::is_floating_point_v<Moment> || !std::is_floating_point_v<G>) {
        narrow_adamw_step(run, updates, source.key());
    } else {
        const auto all = [&](auto* from) { return std::span(from, static_cast<std::size_t>(run.size)); };
        const auto update = [&](auto weights) {
            adamw(all(run.masters), weights, all(run.gradients), all(run.first.values), all(run.second.values), run.decays, updates, apply);
        };
        if constexpr (std::is_void_v<Weight>) update(all(run.masters));
        else update(all(run.weights));
    }
}

}  // namespace longspan::host
