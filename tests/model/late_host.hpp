// SPDX-License-Identifier: Apache-2.0
//
// The host as a backend whose copies to pinned memory and back are done at the worst time (memory/late_copies.hpp).
#pragma once

#include <longspan/host/cpu.hpp>

#include "../memory/late_copies.hpp"

namespace models {

struct late_host : longspan::host::cpu {
    using ops = late_host;
    using cpu::cpu;
    static inline late::copies copies;

    [[nodiscard]] late_host with(std::byte* /*workspace*/, longspan::bad_ids* /*notes*/) const { return {}; }
    template <class Pieces>
    static void leave(longspan::index number, Pieces&& pieces) {
        copies.leave(number, pieces);
    }
    template <class Pieces>
    static void fetch(longspan::index number, Pieces&& pieces) {
        copies.fetch(number, pieces);
    }
    static void wait(longspan::index number) { copies.wait(number); }
};

}  // namespace models
