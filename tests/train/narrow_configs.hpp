// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../model/configs.hpp"

namespace models {

/// A model whose optimizer's state is kept as Update says.
template <auto Update>
struct with : config<llama, local, recompute_every<2>, mixed<bf16>> {
    static constexpr auto update = Update;
};
using usual = with<usual_update>;
using eight = with<moments<eight_bit>>;
using alone = with<moments<bf16>.without_masters()>;
using least = with<moments<eight_bit>.without_masters()>;

}  // namespace models
