// SPDX-License-Identifier: Apache-2.0
//
// The step: the same bits from the same seed and from any number of threads, sums divided once, refusals that change nothing, and
// no allocation.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "../host/buffers.hpp"
#include "../model/configs.hpp"
#include "../sanitized.hpp"
#include "kept_by.hpp"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
    ++allocations;
    void* const at = alignment == 0 ? std::malloc(size) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!at) throw std::bad_alloc();
    return at;
}
}  // namespace

// Of every way to allocate in C++, these are what the others end in.
void* operator new(std::size_t size) { return counted(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) { return counted(size, static_cast<std::size_t>(alignment)); }
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    try {
        return counted(size, static_cast<std::size_t>(alignment));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
// g++ 12 inlines one of the pair and takes free for a stranger to it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }

namespace models {

namespace {

using single = config<llama, local, store_all, fp32>;
/// Long enough that every op is shared among threads.
struct broad {
    static constexpr decoder_shape shape{.layers = 2, .width = 40, .heads = 4, .key_value_heads = 2, .hidden = 88, .vocabulary = 300, .context = 777};
    static constexpr auto attention = causal & window<300>;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp32;
    static constexpr auto batch = packed<1037>.template pieces<16>();
};
using mixed_half = config<rich, local, recompute_every<1>, mixed<fp16>>;

template <class Config>
std::vector<std::byte> trained(std::uint64_t from, int threads) {
    const test::threads_restored restore;
    test::use_threads(threads);
    trainer<Config> t{seed{from}};
    for (std::uint64_t i = 0; i < 3; ++i) {
        const step_report report =
            t.step(Config::batch.budget == budget ? odd_batch(Config::shape.vocabulary, 20 + i)
                                                  : batch_of({777, 0, 1, 200, 33}, Config::shape.vocabulary, 20 + i, Config::batch.budget));
        CHECK(report.refused == "");
        CHECK(report.step == static_cast<index>(i) + 1);
        CHECK(report.high_water == plan<Config, host::cpu>.peak());
    }
    return kept_by(t);
}

std::string refusal_of(auto&& f) {
    try {
        f();
    } catch (const bad_argument& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("trainer: the same seed gives the same bits, on 1, 2 and 3 threads; another seed does not") {
    const auto first = trained<broad>(1, 1);
    CHECK(first == trained<broad>(1, 3));
    if (test::sanitized) return;
    CHECK(first == trained<broad>(1, 1));
    CHECK(first == trained<broad>(1, 2));
    CHECK(first != trained<broad>(2, 1));
}

TEST_CASE("trainer: mixed<fp16> with every option: the same bits on 1 and 3 threads") {
    const auto first = trained<mixed_half>(1, 1);
    CHECK(first == trained<mixed_half>(1, 3));
    CHECK(first != trained<mixed_half>(2, 3));
}

TEST_CASE("trainer: a warmed-up step allocates nothing") {
    trainer<single> t{seed{1}};
    const token_batch batch = odd_batch(llama.vocabulary, 1);
    const std::span<const token_batch> one(&batch, 1);
    // Threads take pieces as they come, and each allocates its scratch at its first: so with one of them it is all there.
    const test::threads_restored restore;
    test::use_threads(1);
    (void)t.step(one);
    const long before = allocations;
    for (int i = 0; i < 3; ++i) CHECK(t.step(one).refused.empty());
    CHECK(allocations == before);
}

TEST_CASE("trainer: micro-batches add up, and are divided once by all their targets") {
    using doubles = config<llama, local, store_all, fp64>;
    trainer<doubles> a{seed{1}}, b{seed{1}};
    const std::vector<token_batch> two{batch_of({40, 3}, llama.vocabulary, 1), batch_of({9, 60, 8}, llama.vocabulary, 2)};
    const step_report both = a.step(std::span<const token_batch>(two));
    CHECK(both.targets == 39 + 2 + 8 + 59 + 7);
    CHECK(both.tokens == 120);
    CHECK(a.state().tokens == 120);
    CHECK(a.state().updates == 1);
    // The same documents in one batch.
    token_batch one = batch_of({40, 3, 9, 60, 8}, llama.vocabulary, 3);
    std::copy_n(two[0].tokens.begin(), 43, one.tokens.begin());
    std::copy_n(two[1].tokens.begin(), 77, one.tokens.begin() + 43);
    std::copy_n(two[0].targets.begin(), 43, one.targets.begin());
    std::copy_n(two[1].targets.begin(), 77, one.targets.begin() + 43);
    sort_tokens(one.tokens, llama.vocabulary, one.by_id);
    const step_report at_once = b.step(one);
    CHECK(both.loss == doctest::Approx(at_once.loss).epsilon(1e-12));
    CHECK(both.gradient_norm == doctest::Approx(at_once.gradient_norm).epsilon(1e-12));
    const auto sums = a.store().gradients(), expected = b.store().gradients();
    double worst = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) worst = std::max(worst, std::abs(sums[i] - expected[i]));
    CHECK(worst < 1e-12 * both.gradient_norm * static_cast<double>(both.targets));
    CHECK(both.loss == doctest::Approx(std::log(61.0)).epsilon(0.05));  // a mean over targets: of a model that knows nothing
}

TEST_CASE("trainer: evaluation is the loss of training without dropout, and changes nothing") {
    trainer<single> t{seed{1}};
    trainer<mixed_half> thinned{seed{1}};
    const token_batch batch = odd_batch(llama.vocabulary, 1), other = odd_batch(rich.vocabulary, 1);
    const auto before = kept_by(t);
    std::vector<double> a(batch.tokens.size()), b(batch.tokens.size());
    CHECK(t.evaluate(batch, a) == t.accumulate_gradients(batch, b));
    CHECK(a == b);
    CHECK(kept_by(t) == before);
    CHECK(thinned.evaluate(other) != thinned.accumulate_gradients(other));
}

TEST_CASE("trainer: a batch without targets changes nothing and says so") {
    trainer<single> t{seed{1}};
    (void)t.step(odd_batch(llama.vocabulary, 1));
    const auto before = kept_by(t);
    const step_report report = t.step(batch_of({1, 1}, llama.vocabulary, 2));
    CHECK(report.refused == "none of the batch's tokens has a target");
    CHECK(report.targets == 0);
    CHECK(kept_by(t) == before);
    CHECK(t.state().steps == 2);
    CHECK(t.state().updates == 1);
    CHECK(t.step(std::span<const token_batch>{}).refused != "");
}

TEST_CASE("trainer: a weight that is not finite: the step refuses, names it, changes nothing") {
    trainer<single> t{seed{1}};
    const token_batch batch = odd_batch(llama.vocabulary, 1);
    (void)t.step(batch);
    for (const float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        for (const char* name : {"embedding.weight", "blocks.1.attention.qkv.weight", "blocks.2.mlp.norm.weight", "head.norm.weight"}) {
            auto& element = t.store().part(t.store().weights(), name)[5];
            const float good = std::exchange(element, poison);
            const auto before = kept_by(t);
            const index updates = t.state().updates;
            const step_report report = t.step(batch);
            CAPTURE(report.refused);
            CHECK(report.refused.find("the weight " + std::string(name) + " is not finite at element 5") != std::string::npos);
            CHECK(kept_by(t) == before);
            CHECK(t.state().updates == updates);
            CHECK(t.state().scale.value == 1);
            t.store().part(t.store().weights(), name)[5] = good;
        }
    }
    CHECK(t.step(batch).refused == "");
}

TEST_CASE("trainer: mixed<fp16>: gradients that overflow are named, and halve the loss scale") {
    trainer<mixed_half> t{seed{1}};
    const token_batch batch = odd_batch(rich.vocabulary, 1);
    CHECK(t.state().scale.value == 1024);
    t.state().scale.value = 0x1p40;
    const auto before = kept_by(t);
    const step_report report = t.step(batch);
    CAPTURE(report.refused);
    CHECK(report.refused.starts_with("the gradient of head."));
    CHECK(t.state().scale.value == 0x1p39);
    CHECK(kept_by(t) == before);
    t.state().scale.value = 1024;
    CHECK(t.step(batch).refused == "");
    CHECK(t.state().scale.value == 1024);
    CHECK(kept_by(t) != before);
}

TEST_CASE("trainer: a batch of another shape is refused in a sentence, and the trainer goes on") {
    trainer<single> t{seed{1}};
    const token_batch good = odd_batch(llama.vocabulary, 1);
    const auto before = kept_by(t);
    const index at_rest = t.memory().used();
    const auto with = [&](auto&& change) {
        token_batch batch = good;
        change(batch);
        return refusal_of([&] { (void)t.step(batch); });
    };
    CHECK(with([](auto& b) { b = batch_of({5}, llama.vocabulary, 1, 130); }) ==
          "the phase takes batches of 131 tokens and 16 pieces; this one has 130 and 16");
    CHECK(with([](auto& b) { b.pieces.pop_back(); }) == "the phase takes batches of 131 tokens and 16 pieces; this one has 131 and 15");
    CHECK(with([](auto& b) { b.targets.pop_back(); }).find("got 130, 131 and 0") != std::string::npos);
    CHECK(with([](auto& b) { b.by_id.clear(); }).find("got 131, 0 and 0") != std::string::npos);
    CHECK(with([](auto& b) { b.weights.resize(7); }).find("got 131, 131 and 7") != std::string::npos);
    CHECK(with([](auto& b) { b.pieces[3].begin = 400; }).find("piece 3 begins at 400") != std::string::npos);
    CHECK(with([](auto& b) { b.pieces[0].begin = 1; }).find("piece 0 begins at 1") != std::string::npos);
    CHECK(with([](auto& b) { b.pieces[6].begin = 140; }).find("piece 6 begins at 140 and ends at 131") != std::string::npos);
    const auto of_126_tokens = [](auto& b) {
        for (std::size_t i : {1, 2, 3}) b.pieces[i].begin = 5;
        for (std::size_t i : {4, 5, 6}) b.pieces[i].begin = 131;
    };
    CHECK(with(of_126_tokens) == "the phase's context is 97 tokens, and piece 3 has 126");
    CHECK(with([](auto& b) { b.tokens[9] = 61; }).find("outside the vocabulary [0, 61)") != std::string::npos);
    CHECK(with([](auto& b) { b.targets[9] = 61; }).find("got 61 at token 9") != std::string::npos);
    CHECK(refusal_of([&] { (void)t.step(std::span(&good, 1), -1.0); }).find("learning rate") != std::string::npos);
    std::vector<double> few(3);
    CHECK(refusal_of([&] { (void)t.evaluate(good, few); }).find("got 3") != std::string::npos);
    CHECK(kept_by(t) == before);
    CHECK(t.state().steps == 0);
    CHECK(t.memory().used() == at_rest);
    CHECK(t.memory().in_order());
    CHECK(t.step(good).refused == "");
}

TEST_CASE("trainer: a position beyond a learned table is refused in a sentence") {
    trainer<config<gpt2, causal, store_all, fp32>> t{seed{1}};
    token_batch batch = odd_batch(gpt2.vocabulary, 1);
    batch.pieces[3].position = 97 - 64;
    CHECK(t.step(batch).refused == "");
    batch.pieces[3].position += 1;
    CHECK(refusal_of([&] { (void)t.step(batch); }) == "positions are learned up to the context of 97, and piece 3 lies at 34 to 98");
}

namespace {

/// More than any machine has.
struct vast {
    static constexpr decoder_shape shape{.layers = 1, .width = 16, .heads = 2, .hidden = 32, .vocabulary = 61, .context = 24};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp32;
    static constexpr auto batch = packed<(index{1} << 40)>.pieces<16>();
};

}  // namespace

TEST_CASE("trainer: a plan that does not fit is refused with its table") {
    static_assert(plan<vast, host::cpu>.peak() > (bytes{1} << 48));
    if (test::sanitized) return;  // it would end the program instead of refusing
    try {
        trainer<vast> t{seed{1}};
        FAIL("the system gave more than it has");
    } catch (const out_of_memory& e) {
        const std::string said = e.what();
        CHECK(said.find("the plan needs one block of " + std::to_string(plan<vast, host::cpu>.peak()) + " bytes, and the system refused it\ntraining step ") == 0);
        CHECK(said.find("gradient stream ") != std::string::npos);
    }
}

namespace {

struct short_phase {
    static constexpr decoder_shape shape{.layers = 1, .width = 16, .heads = 2, .hidden = 32, .vocabulary = 61, .context = 24};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp32;
    static constexpr auto batch = packed<48>;
};
struct long_phase : short_phase {
    static constexpr auto shape = [] {
        auto s = short_phase::shape;
        s.context = 96;
        return s;
    }();
    static constexpr auto attention = causal & window<32>;
    static constexpr auto batch = packed<96>;
};

struct prefixed : long_phase {
    static constexpr auto attention = causal | prefix;
};

}  // namespace

TEST_CASE("trainer: phases share one store, one step count and the arena of the hungriest") {
    trainer<phases<short_phase, long_phase>> both{seed{1}};
    trainer<short_phase> alone{seed{1}};
    CHECK(both.memory_needed == plan<long_phase, host::cpu>.peak());
    const token_batch brief = batch_of({24, 20}, 61, 1, 48, short_phase::batch.max_pieces);
    const token_batch wide = batch_of({90}, 61, 2, 96, long_phase::batch.max_pieces);
    CHECK(both.step<short_phase>(brief).loss == alone.step(brief).loss);
    CHECK(kept_by(both) == kept_by(alone));
    const step_report second = both.step<long_phase>(wide);
    CHECK(second.step == 2);
    CHECK(second.tokens == 90);
    CHECK(second.high_water == plan<long_phase, host::cpu>.peak());
    CHECK(kept_by(both) != kept_by(alone));
    CHECK(refusal_of([&] { (void)both.step<long_phase>(brief); }) != "");
}

TEST_CASE("trainer: a pattern's run-time values are asked for, looked at, and may change from step to step") {
    trainer<prefixed> t{seed{3}};
    const token_batch batch = batch_of({33, 0, 40}, 61, 4, 96, prefixed::batch.max_pieces);
    CHECK(refusal_of([&] { (void)t.evaluate(batch); }) == "prefix: expected one prefix length per piece of the batch, but none were given");
    std::vector<index> lengths(batch.pieces.size(), 0);
    t.set_arguments({prefix_lengths{lengths.data()}});
    const double none = t.evaluate(batch);
    lengths[2] = 20;
    CHECK(t.evaluate(batch) != none);
    lengths[0] = -1;
    CHECK(refusal_of([&] { (void)t.step(batch); }) == "prefix: a prefix length is at least 0, but a negative one came");
    lengths[0] = lengths[2] = 0;
    CHECK(t.evaluate(batch) == none);
}

TEST_CASE("trainer: a tiny model learns a sentence by heart") {
    trainer<long_phase> t{seed{6}};
    const std::string sentence = "the quick brown fox jumps over the lazy dog";
    token_batch batch = batch_of({static_cast<index>(sentence.size())}, 61, 1, 96, long_phase::batch.max_pieces);
    for (std::size_t i = 0; i < sentence.size(); ++i) {
        batch.tokens[i] = sentence[i] == ' ' ? 0 : sentence[i] - 'a' + 1;
        if (i > 0) batch.targets[i - 1] = batch.tokens[i];
    }
    sort_tokens(batch.tokens, 61, batch.by_id);
    const double start = t.step(std::span(&batch, 1), 1e-2).loss;
    double end = start;
    for (int i = 0; i < 150; ++i) end = t.step(std::span(&batch, 1), 1e-2).loss;
    CHECK(start > 3.5);
    CHECK(end < 0.05);
}

}  // namespace models
