// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/batch/batch.hpp>

namespace ls = longspan;

TEST_CASE("batch_counts: counts add, shares are of the sums") {
    ls::batch_counts sum;
    CHECK(sum.padding_share() == 0);
    CHECK(sum.split_share() == 0);
    const ls::batch_counts one{.batches = 1, .tokens = 60, .padding = 4, .targets = 58, .target_weight = 58.5, .pieces = 3,
                               .documents = 2, .split_documents = 1};
    const ls::batch_counts other{.batches = 2, .tokens = 100, .padding = 28, .targets = 90, .target_weight = 90, .pieces = 5,
                                 .documents = 3, .split_documents = 0};
    sum += one;
    CHECK(sum == one);
    sum += other;
    CHECK(sum == ls::batch_counts{.batches = 3, .tokens = 160, .padding = 32, .targets = 148, .target_weight = 148.5,
                                  .pieces = 8, .documents = 5, .split_documents = 1});
    CHECK(sum.padding_share() == doctest::Approx(32.0 / 192));
    CHECK(sum.split_share() == doctest::Approx(0.2));
}

TEST_CASE("describe: a sentence for a person") {
    CHECK(ls::describe(ls::batch_counts{.batches = 4021, .tokens = 8092788, .padding = 98304, .documents = 477,
                                        .split_documents = 390}) ==
          "4,021 batches, 8,092,788 tokens, 1.2 % padding; 477 documents, 390 of them (81.8 %) split");
    CHECK(ls::describe(ls::batch_counts{.batches = 1, .tokens = 1, .padding = 0, .documents = 1}) ==
          "1 batch, 1 tokens, 0.0 % padding; 1 document, 0 of them (0.0 %) split");
    CHECK(ls::describe(ls::batch_counts{.batches = 1, .padding = 8}) ==
          "1 batch, 0 tokens, 100.0 % padding; 0 documents, 0 of them (0.0 %) split");
}

TEST_CASE("token_batch: its table is a view of its pieces") {
    const ls::token_batch b{.tokens = {1, 2, 3}, .targets = {2, -1, -1}, .weights = {},
                            .pieces = {{7, 0, 0}, {ls::padding_document, 0, 2}}, .by_id = {0, 1, 2}, .counts = {}};
    CHECK(b.budget() == 3);
    std::vector<ls::index> lengths;
    for (ls::index i = 0; i < b.table().count(); ++i) lengths.push_back(b.table().length(i));
    CHECK(lengths == std::vector<ls::index>{2, 1});
}
