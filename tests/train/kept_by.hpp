// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace models {

/// Everything that training keeps, as bytes, from whichever memory it lies in.
template <class Trainer>
std::vector<std::byte> kept_by(Trainer& t) {
    std::vector<std::byte> all;
    const auto take = [&](auto span) {
        const auto raw = std::as_bytes(span);
        all.resize(all.size() + raw.size());
        if (!raw.empty()) t.copy_out(raw, all.data() + all.size() - raw.size());
    };
    take(t.store().weights());
    take(t.store().masters());
    take(t.store().first_moments());
    take(t.store().second_moments());
    take(t.store().first_scales());
    take(t.store().second_scales());
    return all;
}

}  // namespace models
