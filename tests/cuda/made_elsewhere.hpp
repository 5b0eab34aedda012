// SPDX-License-Identifier: Apache-2.0
//
// A trainer that one file declares and uses (trainer.cpp) and another makes (made_elsewhere.cpp), on a backend that is named behind the
// configuration. It is the host's, so that no CUDA compiler is needed.
#pragma once

#include <longspan/cuda/trainer.hpp>

#include "models.hpp"

namespace elsewhere {

/// A backend with options, whose name has commas.
template <class Base, int Option>
struct named : Base {
    static constexpr int option = Option;
};

struct config {
    static constexpr longspan::decoder_shape shape = models::waves;
    static constexpr auto attention = longspan::causal;
    static constexpr auto checkpoint = longspan::store_all;
    static constexpr auto precision = longspan::fp32;
    static constexpr auto batch = longspan::packed<models::budget>.pieces<16>();
};

}  // namespace elsewhere

LONGSPAN_EXTERN(elsewhere::config, elsewhere::named<longspan::host::cpu, 2>);
