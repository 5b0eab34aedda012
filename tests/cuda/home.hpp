// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <type_traits>
#include <vector>

namespace models {

/// What a trainer keeps, from whichever memory it lies in.
template <class Trainer, class T>
std::vector<std::remove_const_t<T>> home(Trainer& t, std::span<T> run) {
    std::vector<std::remove_const_t<T>> copy(run.size());
    t.runtime().download(std::span<const T>(run), copy.data());
    return copy;
}

}  // namespace models
