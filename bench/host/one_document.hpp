// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

#include <longspan/batch/permutation.hpp>
#include <longspan/longspan.hpp>

/// One document as long as the budget, of random tokens.
template <class Config>
longspan::token_batch one_document() {
    constexpr longspan::index n = Config::batch.budget;
    std::mt19937 random(1);
    std::uniform_int_distribution<longspan::token_id> token(0, static_cast<longspan::token_id>(Config::shape.vocabulary - 1));
    longspan::token_batch batch;
    batch.tokens.resize(n);
    batch.targets.resize(n);
    for (auto& id : batch.tokens) id = token(random);
    for (auto& id : batch.targets) id = token(random);
    batch.pieces.assign(Config::batch.max_pieces, {.document = longspan::padding_document, .begin = n});
    batch.pieces[0] = {.document = 0, .position = 0, .begin = 0};
    batch.by_id.resize(n);
    longspan::sort_tokens(batch.tokens, Config::shape.vocabulary, batch.by_id);
    batch.counts = {.batches = 1, .tokens = n, .targets = n, .target_weight = n, .pieces = 1, .documents = 1};
    return batch;
}
