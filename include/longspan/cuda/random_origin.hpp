// SPDX-License-Identifier: Apache-2.0
//
// Where in a run a kernel draws its random numbers. A captured step is replayed with other steps' numbers, so seed and step may
// be read from device memory when the kernel runs; a caller of one op alone gives them by value.
#pragma once

#include <longspan/core/philox.hpp>
#include <longspan/core/run_keys.hpp>

namespace longspan::cuda {

/// A random_site whose seed and step come from `keys` where that is not null.
struct random_origin {
    random_site site{};
    const run_keys* keys = nullptr;  ///< device memory

    constexpr random_origin() = default;
    constexpr random_origin(const random_site& at, const run_keys* from = nullptr) : site(at), keys(from) {}

    /// The key of the draws; in a kernel, where `keys` can be read.
    LONGSPAN_HD [[nodiscard]] constexpr philox_key key() const {
        random_site at = site;
        if (keys != nullptr) {
            at.seed = keys->seed;
            at.step = keys->step;
        }
        return key_of(at);
    }
};

}  // namespace longspan::cuda
