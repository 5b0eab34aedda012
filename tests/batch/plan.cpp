// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <map>
#include <set>

#include <longspan/batch/plan.hpp>

#include "corpora.hpp"

namespace ls = longspan;
using ls::index;

namespace {

constexpr index context = 64;

template <class B>
using plan_of = ls::batch_plan<std::remove_cvref_t<B>>;

/// What holds for every plan: each token of each document once, in pieces that are apart, inside the budget and no longer than
/// the context, with ids that name one piece each; and the counts are those of the pieces.
template <class B>
void check_epoch(B, const std::vector<index>& sizes, std::uint64_t seed, index epoch) {
    constexpr bool carries = B::when_long == ls::long_documents::carry;
    const plan_of<B> plan(corpora::of_sizes(sizes), context, seed);
    std::vector<std::vector<int>> seen;
    for (const index size : sizes) seen.emplace_back(static_cast<std::size_t>(size), 0);
    std::map<index, int> ids;
    index tokens = 0, documents = 0, split = 0, batches = 0, pieces = 0;
    for (const auto& batch : corpora::epoch_of(plan, epoch)) {
        REQUIRE_FALSE(batch.empty());
        REQUIRE(static_cast<index>(batch.size()) < B::max_pieces);
        ++batches;
        index end = 0;
        for (const ls::planned_piece& p : batch) {
            REQUIRE(p.length >= 1);
            REQUIRE(p.length <= context);
            REQUIRE(p.place.begin >= end);
            end = p.place.begin + p.length;
            REQUIRE(p.size == sizes.at(static_cast<std::size_t>(p.source)));
            for (index k = 0; k < p.length; ++k) ++seen.at(static_cast<std::size_t>(p.source)).at(static_cast<std::size_t>(p.first + k));
            REQUIRE(p.place.document == (carries ? p.source : p.place.document));
            REQUIRE(p.place.position == (carries ? p.first : 0));
            if (!carries) REQUIRE(++ids[p.place.document] == 1);
            tokens += p.length;
            ++pieces;
        }
        REQUIRE(end <= B::budget);
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        for (const int times : seen[i]) REQUIRE(times == 1);
        documents += sizes[i] > 0 ? 1 : 0;
        if (!carries) split += sizes[i] > context ? 1 : 0;
    }
    const ls::batch_counts counts = plan.count_epoch(epoch);
    CHECK(counts.batches == batches);
    CHECK(counts.tokens == tokens);
    CHECK(counts.padding == batches * B::budget - tokens);
    CHECK(counts.targets == tokens - documents);  // all tokens but the last of each document
    CHECK(counts.target_weight == static_cast<double>(counts.targets));
    CHECK(counts.pieces == pieces);
    CHECK(counts.documents == documents);
    if (!carries) CHECK(counts.split_documents == split);
}

}  // namespace

TEST_CASE("batch_plan: every token once an epoch, whatever the strategy") {
    for (const std::uint64_t seed : {1U, 2U, 3U})
        for (const index epoch : {0, 1, 7}) {
            const std::vector<index> sizes = corpora::mixed_sizes(context, 300, seed);
            check_epoch(ls::packed<256>, sizes, seed, epoch);
            check_epoch(ls::packed<64>, sizes, seed, epoch);
            check_epoch(ls::packed<100>.pieces<3>(), sizes, seed, epoch);
            check_epoch(ls::bucketed<256>, sizes, seed, epoch);
            check_epoch(ls::bucketed<64>.pieces<2>(), sizes, seed, epoch);
            check_epoch(ls::padded<256>.pieces<8>(), sizes, seed, epoch);
            check_epoch(ls::packed<256>.carry(), sizes, seed, epoch);
            check_epoch(ls::packed<100>.carry().pieces<3>(), sizes, seed, epoch);
        }
}

TEST_CASE("batch_plan: a document is cut every `context` tokens, each part with an id of its own") {
    const plan_of<decltype(ls::packed<64>)> plan(corpora::of_sizes({0, 64, 65, 1}), context, 0);
    std::map<index, ls::planned_piece> by_id;
    for (const auto& batch : corpora::epoch_of(plan, 0))
        for (const ls::planned_piece& p : batch) by_id[p.place.document] = p;
    REQUIRE(by_id.size() == 4);
    CHECK((by_id[0].source == 1 && by_id[0].first == 0 && by_id[0].length == 64 && by_id[0].starts() && by_id[0].ends()));
    CHECK((by_id[1].source == 2 && by_id[1].first == 0 && by_id[1].length == 64 && by_id[1].starts() && !by_id[1].ends()));
    CHECK((by_id[2].source == 2 && by_id[2].first == 64 && by_id[2].length == 1 && !by_id[2].starts() && by_id[2].ends()));
    CHECK((by_id[3].source == 3 && by_id[3].length == 1));
    CHECK(by_id[0].targets() == 63);
    CHECK(by_id[1].targets() == 64);  // the last token's target is the first of the next piece
    CHECK(by_id[2].targets() == 0);
    CHECK(plan.count_epoch(0).split_documents == 1);
    CHECK(plan.count_epoch(0).documents == 3);
}

TEST_CASE("batch_plan: under carry, a document's parts follow each other and nothing is padded but the end") {
    const plan_of<decltype(ls::packed<100>.carry().pieces<99>())> plan(corpora::of_sizes(corpora::mixed_sizes(context, 50, 1)), context, 5);
    const auto batches = corpora::epoch_of(plan, 2);
    index document = -1, next = 0;
    for (std::size_t b = 0; b < batches.size(); ++b) {
        index filled = 0;
        for (const ls::planned_piece& p : batches[b]) {
            if (p.source != document) CHECK(p.first == 0);
            else CHECK(p.first == next);
            document = p.source;
            next = p.first + p.length;
            filled += p.length;
        }
        if (b + 1 < batches.size()) CHECK(filled == 100);
    }
}

TEST_CASE("batch_plan: order is a function of the seed and the epoch alone") {
    const auto source = corpora::of_sizes(corpora::mixed_sizes(context, 200, 9));
    const auto order = [&](std::uint64_t seed, index epoch) {
        std::vector<index> ids;
        for (const auto& batch : corpora::epoch_of(plan_of<decltype(ls::packed<256>)>(source, context, seed), epoch))
            for (const ls::planned_piece& p : batch) ids.push_back(p.place.document);
        return ids;
    };
    CHECK(order(1, 0) == order(1, 0));
    CHECK(order(1, 0) != order(2, 0));
    CHECK(order(1, 0) != order(1, 1));
    CHECK(order(1, 1) != order(2, 0));

    // Another epoch is not the same batches in another order: other documents meet.
    const auto company = [&](index epoch) {
        std::set<std::set<index>> groups;
        for (const auto& batch : corpora::epoch_of(plan_of<decltype(ls::packed<256>)>(source, context, 1), epoch)) {
            std::set<index> group;
            for (const ls::planned_piece& p : batch) group.insert(p.place.document);
            groups.insert(group);
        }
        return groups;
    };
    CHECK(company(0) != company(1));

    // Walking through an epoch leads to the same next epoch as going there at once, and back again.
    plan_of<decltype(ls::packed<256>)> plan(source, context, 1);
    while (plan.epoch() == 0) plan.advance();
    const std::vector<ls::planned_piece> walked(plan.pieces().begin(), plan.pieces().end());
    plan.seek(3, 5);
    plan.seek(1, 0);
    CHECK(plan.pieces().size() == walked.size());
    CHECK(plan.pieces().front().place == walked.front().place);
}

TEST_CASE("batch_plan: several windows, and every place in them can be gone to") {
    std::vector<index> sizes(150000, 2);
    for (std::size_t i = 0; i < sizes.size(); i += 7) sizes[i] = 0;
    ls::text_documents source;
    for (const index size : sizes) source.add(std::string(static_cast<std::size_t>(size), 'x'), "x");
    const plan_of<decltype(ls::packed<64>.pieces<99>())> walk(source, context, 3);
    const ls::batch_counts counts = walk.count_epoch(0);
    CHECK(counts.tokens == ls::total_tokens(source));
    CHECK(counts.batches == ls::ceil_div(65536, 32) + ls::ceil_div(128571 - 65536, 32));
    auto moved = walk;
    for (const index at : {index{0}, index{2047}, index{2048}, counts.batches - 1}) {
        moved.seek(0, at);
        auto stepped = walk;
        for (index i = 0; i < at; ++i) stepped.advance();
        CHECK(moved.pieces().front().place == stepped.pieces().front().place);
        CHECK(stepped.batch() == at);
    }
    moved.advance();
    CHECK(moved.epoch() == 1);
    CHECK(moved.batch() == 0);

    // Under carry a window is of documents; one without a token is passed over.
    std::vector<index> bare(200000, 0);
    bare[3] = bare[199999] = 1;
    ls::text_documents sparse;
    for (const index size : bare) sparse.add(std::string(static_cast<std::size_t>(size), 'x'), "x");
    const ls::batch_counts two = plan_of<decltype(ls::packed<64>.carry())>(sparse, context, 1).count_epoch(0);
    CHECK(two.tokens == 2);
    CHECK(two.batches <= 2);
}

TEST_CASE("batch_plan: what cannot be planned is refused with a sentence") {
    using refusing = plan_of<decltype(ls::packed<64>.refuse())>;
    CHECK_NOTHROW(refusing(corpora::of_sizes({64, 1}), context, 0));
    CHECK_THROWS_WITH_AS(refusing(corpora::of_sizes({64, 65}), context, 0),
                         "A document must fit into the context of 64 tokens, because the batching strategy refuses longer ones; "
                         "document 1 has 65. Say .split(), or raise the context.", ls::document_too_long);
    using splitting = plan_of<decltype(ls::packed<64>)>;
    CHECK_THROWS_WITH_AS(splitting(corpora::of_sizes({}), context, 0), "Batches need at least one token; there is no document.",
                         ls::bad_corpus);
    CHECK_THROWS_WITH_AS(splitting(corpora::of_sizes({0, 0}), context, 0),
                         "Batches need at least one token; all 2 documents are empty.", ls::bad_corpus);
    CHECK_THROWS_AS(splitting(corpora::of_sizes({1}), 65, 0), ls::bad_argument);
    splitting plan(corpora::of_sizes({64, 64}), context, 0);
    CHECK_THROWS_WITH_AS(plan.seek(1, 2), "Epoch 1 has 2 batches; batch 2, counted from 0, was asked for.", ls::bad_argument);
    CHECK_THROWS_AS(plan.seek(0, -1), ls::bad_argument);
}
