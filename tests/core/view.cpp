// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/view.hpp>

#include <vector>

namespace ls = longspan;

TEST_CASE("views of rows and columns address the elements of the whole") {
    std::vector<int> memory(5 * 7);
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<int>(i);
    const ls::matrix_view<int> whole(memory.data(), 5, 6, 7);  // [5, 6] in rows of 7
    CHECK(whole.size() == 30);
    CHECK(ls::matrix_view<int>(memory.data(), 5, 7).stride == 7);

    const auto part = whole.row_range(1, 3).column_range(2, 4);
    CHECK(part.rows == 3);
    CHECK(part.columns == 4);
    for (ls::index r = 0; r < part.rows; ++r) {
        CHECK(part.row(r) == whole.row(r + 1) + 2);
        for (ls::index c = 0; c < part.columns; ++c) CHECK(part(r, c) == (r + 1) * 7 + c + 2);
    }
    part(0, 0) = -1;
    const ls::matrix_view<const int> constant = whole;
    CHECK(constant(1, 2) == -1);
    CHECK(ls::matrix_view<float>().size() == 0);
}

TEST_CASE("counts pass 2^31 elements") {
    CHECK(ls::matrix_view<char>(nullptr, ls::index(1) << 32, 3).size() == ls::index(3) << 32);
}
