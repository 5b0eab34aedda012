// SPDX-License-Identifier: Apache-2.0
// What a user's first file does: it includes longspan and calls something of every layer of it.
#include <longspan/core/error.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/parallel.hpp>

#include <iostream>
#include <vector>

namespace ls = longspan;

int main() {
    std::vector<float> values(6);
    const ls::matrix_view<float> rows(values.data(), 3, 2);
    ls::host::parallel_for(rows.rows, [&](ls::index r) { rows(r, 1) = static_cast<float>(r); });
    std::cout << rows(2, 1) << '\n';
    return rows(2, 1) == 2.0F ? 0 : 1;
}
