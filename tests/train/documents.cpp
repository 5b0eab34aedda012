// SPDX-License-Identifier: Apache-2.0
//
// Whole models over packed batches: what a document gives does not depend on its neighbours.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "../model/configs.hpp"

namespace models {

TEST_CASE("documents: a document's losses are those of the document alone, and no bit of them is another's") {
    const auto losses_of = [](auto& t, const token_batch& batch) {
        std::vector<double> losses(batch.tokens.size(), -1);
        const double sum = t.accumulate_gradients(batch, losses);
        double total = 0;
        for (const double l : losses) total += l;
        CHECK(total == doctest::Approx(sum).epsilon(1e-12));
        return losses;
    };
    const std::vector<index> lengths{33, 0, 1, 64, 2, 17};
    const auto check = [&]<class Config>(Config, double tolerance) {
        trainer<Config> t{seed{4}};
        const index vocabulary = Config::shape.vocabulary;
        const token_batch packed = odd_batch(vocabulary, 9);
        const std::vector<double> all = losses_of(t, packed);
        index begin = 0;
        for (std::size_t d = 0; d < lengths.size(); begin += lengths[d++]) {
            const auto at = packed.tokens.begin() + begin;
            token_batch alone = batch_of({lengths[d]}, vocabulary, 1);
            alone.pieces[0].document = packed.pieces[d].document;  // dropout is the document's
            std::copy_n(at, lengths[d], alone.tokens.begin());
            sort_tokens(alone.tokens, vocabulary, alone.by_id);
            std::copy_n(packed.targets.begin() + begin, lengths[d], alone.targets.begin());
            const std::vector<double> own = losses_of(t, alone);
            double worst = 0;
            for (index i = 0; i < lengths[d]; ++i) {
                const double expected = all[static_cast<std::size_t>(begin + i)], loss = own[static_cast<std::size_t>(i)];
                if (loss != expected) worst = std::max(worst, std::abs(loss - expected) / expected);
            }
            CHECK(worst <= tolerance);
            // Another token in the middle of this document: no bit of another's losses moves.
            if (lengths[d] == 0) continue;
            token_batch other = packed;
            auto& changed = other.tokens[static_cast<std::size_t>(begin + lengths[d] / 2)];
            changed = static_cast<token_id>((changed + 1) % vocabulary);
            sort_tokens(other.tokens, vocabulary, other.by_id);
            const std::vector<double> moved = losses_of(t, other);
            double own_moved = 0;
            index strangers_moved = 0;
            for (std::size_t i = 0; i < all.size(); ++i) {
                const bool inside = static_cast<index>(i) >= begin && static_cast<index>(i) < begin + lengths[d];
                if (inside) own_moved += std::abs(moved[i] - all[i]);
                else strangers_moved += std::bit_cast<std::uint64_t>(moved[i]) != std::bit_cast<std::uint64_t>(all[i]);
            }
            CHECK(strangers_moved == 0);
            if (lengths[d] != 2) CHECK((own_moved > 0) == (lengths[d] > 2));  // of two, the last may or may not be seen
        }
    };
    check(config<llama, local, store_all, fp64>{}, 1e-12);
    check(config<gpt2, full, store_all, fp64>{}, 1e-12);
    check(config<rich, stack<global<2>, causal & strided<3>>, store_all, fp32>{}, 1e-5);
    check(config<llama, local, store_all, fp32>{}, 1e-5);
}

TEST_CASE("documents: a token of one document moves no gradient of another's rows") {
    // The head is untied and no position is learned: the embedding rows of ids that only document B holds are B's gradients.
    using separate = config<waves, full, store_all, fp64>;
    trainer<separate> t{seed{2}};
    token_batch batch = batch_of({50, 40}, waves.vocabulary, 3);
    for (std::size_t i = 0; i < 50; ++i) batch.tokens[i] = static_cast<token_id>(batch.tokens[i] % 18);
    for (std::size_t i = 50; i < 90; ++i) batch.tokens[i] = static_cast<token_id>(18 + batch.tokens[i] % 18);
    const auto rows_of_b = [&] {
        sort_tokens(batch.tokens, waves.vocabulary, batch.by_id);
        const auto gradients = t.store().gradients();
        std::fill(gradients.begin(), gradients.end(), 0.0);
        (void)t.accumulate_gradients(batch);
        const auto table = t.store().part(gradients, "embedding.weight");
        return std::vector(table.begin() + 18 * waves.width, table.end());
    };
    const auto before = rows_of_b();
    batch.tokens[20] = (batch.tokens[20] + 1) % 18;
    CHECK(before == rows_of_b());
    batch.tokens[70] = 18 + (batch.tokens[70] - 18 + 1) % 18;
    CHECK(before != rows_of_b());
}

}  // namespace models
