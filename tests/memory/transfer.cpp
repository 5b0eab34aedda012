// SPDX-License-Identifier: Apache-2.0
//
// The contract of transfers, as the tests' own copies keep it.
#include <doctest/doctest.h>

#include "late_copies.hpp"

namespace {

struct const_ops {
    template <class Pieces>
    void leave(longspan::index, Pieces&&) const {}
    template <class Pieces>
    void fetch(longspan::index, Pieces&&) const {}
    void wait(longspan::index) const {}
};
static_assert(longspan::transferring<const_ops>);
static_assert(!longspan::transferring<int>);

}  // namespace

TEST_CASE("transfer: a copy is done between being asked for and being waited for, and what left is no longer there") {
    for (const bool at_once : {false, true}) {
        late::copies copies;
        copies.at_once = at_once;
        int here[2] = {7, 8}, away[2] = {0, 0};
        const auto both = [&](auto&& copy) {
            for (int i = 0; i < 2; ++i) copy(reinterpret_cast<std::byte*>(here + i), reinterpret_cast<std::byte*>(away + i), longspan::bytes{sizeof(int)});
        };
        copies.leave(3, both);
        CHECK(away[1] == (at_once ? 8 : 0));
        CHECK(here[1] == 8);
        late::copies same = copies;
        CHECK(!same.settled());
        copies.wait(4);
        CHECK(away[0] == (at_once ? 7 : 0));
        copies.wait(3);
        CHECK(away[0] == 7);
        CHECK(away[1] == 8);
        CHECK(here[0] == -1);
        copies.fetch(3, both);
        CHECK(here[0] == (at_once ? 7 : -1));
        copies.wait(3);
        CHECK(here[0] == 7);
        CHECK(here[1] == 8);
        CHECK(copies.settled());
    }
}
