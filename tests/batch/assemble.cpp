// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/batch/assemble.hpp>

#include "corpora.hpp"

namespace ls = longspan;
using ls::index;

namespace {

constexpr index context = 16;

/// A source whose k-th token, as a target, weighs k.
struct weighing : ls::text_documents {
    using ls::text_documents::text_documents;
    void weights(index, index first, std::span<float> out) const {
        for (std::size_t k = 0; k < out.size(); ++k) out[k] = static_cast<float>(first + static_cast<index>(k));
    }
};

/// A source that breaks its word.
struct lying : ls::text_documents {
    using ls::text_documents::text_documents;
    void read(index, index, std::span<ls::token_id> out) const {
        for (ls::token_id& id : out) id = 256;
    }
};

/// Tokens and targets are the document's, everything else is padding, and the table says so.
void check_batch(const ls::token_batch& b, const ls::text_documents& source, std::span<const ls::planned_piece> pieces,
                 index budget, index max_pieces) {
    REQUIRE(static_cast<index>(b.tokens.size()) == budget);
    REQUIRE(b.targets.size() == b.tokens.size());
    REQUIRE(b.by_id.size() == b.tokens.size());
    REQUIRE(static_cast<index>(b.pieces.size()) == max_pieces);
    CHECK(b.weights.empty());

    index targets = 0, next = 0;
    const ls::piece_table table = b.table();
    for (index i = 0; i < table.count(); ++i) {
        REQUIRE(table.begin(i) >= 0);
        REQUIRE(table.length(i) >= 0);
        if (table[i].document == ls::padding_document) {
            CHECK(table[i].position == 0);
            for (index t = table.begin(i); t < table.end(i); ++t) {
                REQUIRE(b.tokens[static_cast<std::size_t>(t)] == 0);
                REQUIRE(b.targets[static_cast<std::size_t>(t)] == ls::ignored_target);
            }
            continue;
        }
        const ls::planned_piece& p = pieces[static_cast<std::size_t>(next++)];
        REQUIRE(table[i] == p.place);
        REQUIRE(table.length(i) == p.length);
        const std::string& text = source.text(p.source);
        for (index k = 0; k < p.length; ++k) {
            const auto t = static_cast<std::size_t>(p.place.begin + k), at = static_cast<std::size_t>(p.first + k);
            REQUIRE(b.tokens[t] == static_cast<unsigned char>(text[at]));
            REQUIRE(b.targets[t] == (at + 1 < text.size() ? static_cast<unsigned char>(text[at + 1]) : ls::ignored_target));
            targets += b.targets[t] == ls::ignored_target ? 0 : 1;
        }
    }
    CHECK(next == static_cast<index>(pieces.size()));
    CHECK(table.begin(0) == 0);
    CHECK(table.end(table.count() - 1) == budget);
    CHECK(b.counts.targets == targets);
    CHECK(b.counts == ls::count_batch(pieces, budget));
    for (std::size_t k = 1; k < b.by_id.size(); ++k) {
        const auto before = static_cast<std::size_t>(b.by_id[k - 1]), here = static_cast<std::size_t>(b.by_id[k]);
        REQUIRE((b.tokens[before] < b.tokens[here] || (b.tokens[before] == b.tokens[here] && before < here)));
    }
}

template <class B>
void check_epoch(B, std::uint64_t seed) {
    const ls::text_documents source = corpora::of_sizes(corpora::mixed_sizes(context, 60, seed));
    ls::token_batch b;  // one for all: nothing of the last batch may be left
    ls::batch_plan<B> plan(source, context, seed);
    for (; plan.epoch() == 0; plan.advance()) {
        ls::assemble(b, source, plan.pieces(), B::budget, B::max_pieces);
        check_batch(b, source, plan.pieces(), B::budget, B::max_pieces);
    }
}

}  // namespace

TEST_CASE("assemble: tokens, targets one ahead, padding and table, for every strategy") {
    for (const std::uint64_t seed : {1U, 2U}) {
        check_epoch(ls::packed<64>.pieces<20>(), seed);
        check_epoch(ls::packed<16>, seed);
        check_epoch(ls::bucketed<50>.pieces<4>(), seed);
        check_epoch(ls::padded<48>.pieces<6>(), seed);
        check_epoch(ls::packed<50>.carry().pieces<9>(), seed);
    }
}

TEST_CASE("assemble: no piece at all is a batch of padding") {
    ls::token_batch b;
    ls::assemble(b, ls::text_documents{}, {}, 5, 3);
    CHECK(b.tokens == std::vector<ls::token_id>(5, 0));
    CHECK(b.targets == std::vector<ls::token_id>(5, -1));
    CHECK(b.pieces == std::vector<ls::piece>{{-1, 0, 0}, {-1, 0, 5}, {-1, 0, 5}});
    CHECK(b.counts == ls::batch_counts{.batches = 1, .padding = 5});
    // A batch without padding needs no piece for it.
    ls::assemble(b, ls::text_documents{"abcde"}, std::vector{ls::planned_piece{0, 5, 0, 5, {0, 0, 0}}}, 5, 1);
    CHECK(b.pieces == std::vector<ls::piece>{{0, 0, 0}});
}

TEST_CASE("assemble: weights belong to targets, and are summed") {
    const weighing source{"abcde"};
    ls::token_batch b;
    const ls::planned_piece head{0, 5, 0, 3, {0, 0, 0}}, tail{0, 5, 3, 2, {1, 0, 3}};
    ls::assemble(b, source, std::vector{head, tail}, 6, 4);
    CHECK(b.targets == std::vector<ls::token_id>{'b', 'c', 'd', 'e', -1, -1});
    CHECK(b.weights == std::vector<float>{1, 2, 3, 4, 0, 0});
    CHECK(b.counts.target_weight == 10);
    CHECK(b.counts.targets == 4);
    // The same memory serves a source without weights afterwards.
    ls::assemble(b, ls::text_documents{"abcde"}, std::vector{head}, 6, 4);
    CHECK(b.weights.empty());
    CHECK(b.counts.target_weight == 3);
}

TEST_CASE("assemble: what does not fit is refused with a sentence") {
    const ls::text_documents source{"abcde"};
    ls::token_batch b;
    const auto placed = [](index first, index length, index begin) {
        return ls::planned_piece{0, 5, first, length, {0, 0, begin}};
    };
    CHECK_THROWS_WITH_AS(ls::assemble(b, source, std::vector{placed(0, 3, 0), placed(3, 2, 2)}, 8, 4),
                         "The pieces of a batch lie one after another in [0, 8); one of length 2 begins at 2, behind one that "
                         "ends at 3.", ls::bad_argument);
    CHECK_THROWS_AS(ls::assemble(b, source, std::vector{placed(0, 5, 4)}, 8, 4), ls::bad_argument);
    CHECK_THROWS_AS(ls::assemble(b, source, std::vector{placed(0, 0, 4)}, 8, 4), ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::assemble(b, source, std::vector{placed(0, 1, 0), placed(1, 1, 2)}, 8, 3),
                         "The table of a batch has room for 3 pieces, padding among them; 4 came.", ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::assemble(b, lying{"abc"}, std::vector{ls::planned_piece{0, 3, 0, 3, {0, 0, 0}}}, 8, 3),
                         "A token is an id below the source's vocabulary of 256; document 0 holds 256.", ls::bad_argument);
}
