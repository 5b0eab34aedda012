// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>

#include <longspan/batch/loader.hpp>

#include "corpora.hpp"

namespace ls = longspan;
using ls::index;

namespace {

constexpr index context = 32;

struct shape_of {
    index vocabulary = 256, context = 32;
};
struct config {
    static constexpr shape_of shape{};
    static constexpr auto batch = ls::packed<64>.pieces<20>();
};
struct accumulating : config {
    static constexpr auto batch = ls::packed<64>.pieces<20>().accumulate<3>();
};
struct narrow : config {
    static constexpr shape_of shape{.vocabulary = 255};
};
using strategy = std::remove_cvref_t<decltype(config::batch)>;
using groups_of_three = std::remove_cvref_t<decltype(accumulating::batch)>;

ls::text_documents corpus(std::uint64_t seed = 1) { return corpora::of_sizes(corpora::mixed_sizes(context, 100, seed)); }

/// All that a batch holds, as one hash.
std::uint64_t bits_of(const ls::token_batch& b) {
    std::uint64_t all = ls::mix64(static_cast<std::uint64_t>(b.counts.targets));
    for (const ls::token_id id : b.tokens) all = ls::combine64(all, static_cast<std::uint64_t>(id));
    for (const ls::token_id id : b.targets) all = ls::combine64(all, static_cast<std::uint64_t>(id));
    for (const std::int32_t t : b.by_id) all = ls::combine64(all, static_cast<std::uint64_t>(t));
    for (const ls::piece& p : b.pieces)
        for (const index part : {p.document, p.position, p.begin}) all = ls::combine64(all, static_cast<std::uint64_t>(part));
    return all;
}

std::vector<std::uint64_t> bits_of_next(auto& loader, int steps) {
    std::vector<std::uint64_t> bits;
    for (int i = 0; i < steps; ++i)
        for (const ls::token_batch& b : loader.next_step()) bits.push_back(bits_of(b));
    return bits;
}

/// A source that fails at its n-th read.
struct failing : ls::text_documents {
    failing(ls::text_documents texts, int reads) : ls::text_documents(std::move(texts)), left(std::make_shared<std::atomic<int>>(reads)) {}
    void read(index i, index first, std::span<ls::token_id> out) const {
        if ((*left)-- <= 0) throw ls::bad_corpus("the disk is gone");
        ls::text_documents::read(i, first, out);
    }
    std::shared_ptr<std::atomic<int>> left;
};

}  // namespace

static_assert(ls::batch_config<config>);
static_assert(!ls::batch_config<int>);

TEST_CASE("batch_loader: the same bits whatever is made ahead, over several epochs") {
    std::vector<std::uint64_t> inline_bits;
    for (const index depth : {0, 1, 2, 4, 100}) {
        ls::batch_loader<strategy, ls::text_documents> loader(corpus(), context, {.seed = 3, .depth = depth});
        const std::vector<std::uint64_t> bits = bits_of_next(loader, 150);
        CHECK(loader.state().epoch >= 2);
        if (depth == 0) inline_bits = bits;
        CHECK(bits == inline_bits);
    }
    ls::batch_loader<strategy, ls::text_documents> other(corpus(), context, {.seed = 4});
    CHECK(bits_of_next(other, 150) != inline_bits);
}

TEST_CASE("batch_loader: a run resumed anywhere goes on as if nothing had happened") {
    for (const index depth : {0, 3}) {
        ls::batch_loader<strategy, ls::text_documents> whole(corpus(), context, {.seed = 3, .depth = depth});
        const std::vector<std::uint64_t> bits = bits_of_next(whole, 120);
        for (const int at : {0, 1, 17, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 119}) {  // an end of an epoch among them
            ls::batch_loader<strategy, ls::text_documents> first(corpus(), context, {.seed = 3, .depth = depth});
            (void)bits_of_next(first, at);
            ls::batch_loader<strategy, ls::text_documents> second(corpus(), context,
                                                                  {.seed = 99, .depth = depth, .resume = first.state()});
            CHECK(second.state() == first.state());
            const std::vector<std::uint64_t> rest = bits_of_next(second, 120 - at);
            CHECK(rest == std::vector(bits.begin() + at, bits.end()));
            CHECK(second.state() == whole.state());
        }
    }
}

TEST_CASE("batch_loader: state is that of the next batch, and counts are those of the batches taken") {
    ls::batch_loader<strategy, ls::text_documents> loader(corpus(), context, {.seed = 5, .depth = 4});
    const ls::batch_counts epoch = loader.count_epoch(0);
    CHECK(loader.state() == ls::data_state{5, 0, 0, ls::fingerprint(corpus()), 64, context});
    ls::batch_counts sum;
    for (index i = 0; i < epoch.batches; ++i) {
        CHECK(loader.state().batch == i);
        sum += loader.next().counts;
    }
    CHECK(loader.state().epoch == 1);
    CHECK(loader.state().batch == 0);
    CHECK(loader.counts() == sum);
    CHECK(sum == epoch);
    CHECK(epoch.tokens == ls::total_tokens(corpus()));
}

TEST_CASE("batch_loader: steps and epochs end a walk; asking for more is refused") {
    for (const index depth : {0, 2}) {
        index seen = 0;
        ls::batch_loader<strategy, ls::text_documents> three(corpus(), context, {.steps = 3, .depth = depth});
        for (const auto& batch : three) seen += batch.counts.batches;
        CHECK(seen == 3);
        CHECK(three.done());
        CHECK_THROWS_WITH_AS((void)three.next(), "The batches asked for (3 steps, 0 epochs, 0 for any) are over; ask done() before next().",
                             ls::bad_argument);

        ls::batch_loader<strategy, ls::text_documents> once(corpus(), context, {.epochs = 1, .depth = depth});
        while (!once.done()) (void)once.next();
        CHECK(once.counts() == once.count_epoch(0));
        CHECK(once.state().epoch == 1);
        CHECK_THROWS_AS((void)once.next(), ls::bad_argument);

        ls::batch_loader<strategy, ls::text_documents> over(corpus(), context, {.epochs = 1, .depth = depth, .resume = once.state()});
        CHECK(over.done());
        for (const auto& batch : over) FAIL("a batch behind the end: ", batch.budget());
    }
}

TEST_CASE("batch_loader: micro-batches of a step are those of the plain walk, in order") {
    ls::batch_loader<strategy, ls::text_documents> plain(corpus(), context, {.seed = 8});
    ls::batch_loader<groups_of_three, ls::text_documents> grouped(corpus(), context, {.seed = 8});
    CHECK(bits_of_next(grouped, 40) == bits_of_next(plain, 120));
    CHECK(grouped.state() == plain.state());
    CHECK(grouped.counts() == plain.counts());

    // At the end of the last epoch the step is filled up with padding.
    index steps = 0, padded = 0;
    ls::batch_counts sum;
    const index whole = plain.count_epoch(0).batches;
    for (const auto& step : ls::batches<accumulating>(corpus(), {.seed = 8, .epochs = 1})) {
        REQUIRE(step.size() == 3);
        ++steps;
        for (const ls::token_batch& b : step) {
            sum += b.counts;
            padded += b.counts.tokens == 0 ? 1 : 0;
        }
    }
    CHECK(steps == ls::ceil_div(whole, 3));
    CHECK(padded == steps * 3 - whole);
    CHECK(sum.tokens == ls::total_tokens(corpus()));
}

TEST_CASE("batches: a loop over what a configuration trains on") {
    index targets = 0;
    for (const auto& batch : ls::batches<config>(corpus(), {.seed = 1, .epochs = 1})) targets += batch.counts.targets;
    CHECK(targets == ls::batch_plan<strategy>(corpus(), context, 1).count_epoch(0).targets);
    // A shorter longest piece, inside the same budget, for length warm-up.
    ls::batch_loader warm = ls::batches<config>(corpus(), {.longest = 8});
    for (int i = 0; i < 20; ++i) {
        const ls::token_batch& batch = warm.next();
        for (index k = 0; k < batch.table().count(); ++k)
            if (batch.pieces[static_cast<std::size_t>(k)].document != ls::padding_document) CHECK(batch.table().length(k) <= 8);
    }
}

TEST_CASE("batch_loader: an error in the thread is thrown where its batch would have come, and again") {
    index taken_inline = 0;
    for (const index depth : {0, 1, 4, 1000}) {
        const failing source(corpus(), 40);
        ls::batch_loader<strategy, failing> loader(source, context, {.seed = 2, .depth = depth});
        while (depth == 1000 && *source.left >= 0) std::this_thread::yield();  // the thread fails before anything is taken
        if (depth == 1000) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        index taken = 0;
        const auto take_all = [&] {
            for (; taken < 1000; ++taken) (void)loader.next();
        };
        CHECK_THROWS_WITH_AS(take_all(), "the disk is gone", ls::bad_corpus);
        CHECK(taken > 4);
        if (depth == 0) taken_inline = taken;
        CHECK(taken == taken_inline);  // batches that were made before the error are handed out
        CHECK(loader.counts().batches == taken);
        CHECK(loader.state().batch == taken);
        CHECK_THROWS_WITH_AS((void)loader.next(), "the disk is gone", ls::bad_corpus);
    }
}

TEST_CASE("batch_loader: a loader that is dropped at any moment ends its thread") {
    for (int i = 0; i < 50; ++i) {
        ls::batch_loader<strategy, ls::text_documents> loader(corpus(), context, {.depth = 1 + i % 3});
        for (int k = 0; k < i % 5; ++k) (void)loader.next();
    }
}

TEST_CASE("batch_loader: a walk that makes no sense is refused with a sentence") {
    using loader = ls::batch_loader<strategy, ls::text_documents>;
    const ls::data_state start = loader(corpus(), context).state();
    ls::data_state other = start;
    other.corpus ^= 1;
    CHECK_THROWS_WITH_AS(loader(corpus(), context, {.resume = other}),
                         ("A run is resumed over the text that it began with; this corpus (110 documents, " +
                          ls::detail::grouped(ls::total_tokens(corpus())) +
                          " tokens) has other documents, or the same ones changed.").c_str(), ls::bad_corpus);
    other = start;
    other.context = 64;
    CHECK_THROWS_WITH_AS(loader(corpus(), context, {.resume = other}),
                         "The place to resume from counts batches of 64 tokens in pieces of 64; this configuration has batches "
                         "of 64 in pieces of 32.", ls::bad_snapshot);
    other = start;
    other.batch = 100000;
    CHECK_THROWS_AS(loader(corpus(), context, {.resume = other}), ls::bad_argument);
    CHECK_THROWS_WITH_AS(loader(corpus(), context, {.longest = 33}),
                         "The longest piece of a walk is at most the context of 32 tokens; 33 was asked for.", ls::bad_argument);
    CHECK_THROWS_AS(loader(corpus(), context, {.depth = -1}), ls::bad_argument);
    CHECK_THROWS_WITH_AS((void)ls::batches<config>(ls::text_documents{"short", "texts"}),
                         "A corpus holds at least one context of text, 32 tokens; this one has 10 in 2 documents.", ls::bad_corpus);
    CHECK_THROWS_WITH_AS((void)ls::batches<narrow>(corpus()),
                         "The model's vocabulary covers the source's ids; the model has 255, the source 256.", ls::bad_argument);
}
