// SPDX-License-Identifier: Apache-2.0
//
// A user's mistakes at the trainer's door, on the device: a sentence each, and the same context trains on afterwards. Those of single
// ops stand in their own tests, what a GPU must be in requirements.cpp, head widths in tests/misuse.
#include <array>
#include <span>
#include <string>
#include <vector>

#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>

#include "models.hpp"
#include "support.cuh"

namespace models {
namespace {

using plain = config<llama, causal, store_all, fp32>;
using learned = config<gpt2, causal, store_all, fp32>;
using prefixed = config<llama, causal | prefix, store_all, fp32>;

/// More than any GPU has, in activations: its parameters alone would fit.
struct vast {
    static constexpr decoder_shape shape{.layers = 2, .width = 64, .heads = 4, .hidden = 96, .vocabulary = 61, .context = 4096};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp32;
    static constexpr auto batch = packed<(index{1} << 31) - 1>.pieces<16>();
};

template <class Error = bad_argument>
std::string refusal_of(auto&& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}
std::size_t free_bytes() {
    std::size_t free = 0, total = 0;
    cuda::check(cudaMemGetInfo(&free, &total), "test");
    return free;
}

}  // namespace

TEST_CASE("cuda bad input: a plan that does not fit is refused before anything is allocated, with its table and a budget that fits") {
    (void)trainer<plain, cuda::device>(seed{1});  // what libraries keep, they have now
    const std::size_t before = free_bytes();
    bytes room = 0;
    const std::string said = refusal_of<out_of_memory>([&] {
        try {
            trainer<vast, cuda::device> t{seed{1}};
        } catch (const out_of_memory& e) {
            room = e.room;
            throw;
        }
    });
    CAPTURE(said);
    CHECK(free_bytes() == before);
    CHECK(said.find("the plan needs " + std::to_string(plan<vast, cuda::device>.peak()) + " bytes, and " + std::to_string(cuda::reserve) + " more are kept for") == 0);
    CHECK(said.find("\n" + describe(plan<vast, cuda::device>)) != std::string::npos);
    CHECK(room > 0);
    const index budget = budget_within<vast, cuda::device>(room);
    CHECK(budget >= vast::shape.context);
    CHECK(said.find("the nearest budget that fits is " + detail::grouped_bytes(budget) + " tokens, and config.batch names 2,147,483,647") != std::string::npos);

    trainer<plain, cuda::device> t{seed{1}};
    CHECK(t.step(odd_batch(llama.vocabulary, 1)).refused == "");
}

TEST_CASE("cuda bad input: batches of another shape, offsets that go back, pieces beyond the budget or the context") {
    trainer<plain, cuda::device> t{seed{1}};
    const token_batch good = odd_batch(llama.vocabulary, 1);
    const auto with = [&](auto&& change) {
        token_batch batch = good;
        change(batch);
        return refusal_of([&] { (void)t.step(batch); });
    };
    const double loss = t.evaluate(good);
    CHECK(with([](auto& b) { b = batch_of({5}, llama.vocabulary, 1, 262); }) == "the phase takes batches of 263 tokens and 16 pieces; this one has 262 and 16");
    CHECK(with([](auto& b) { b.targets.pop_back(); }).find("got 262, 263 and 0") != std::string::npos);
    CHECK(with([](auto& b) { b.pieces[4].begin = 63; }) == "a batch's pieces lie end to end from token 0: piece 3 begins at 65 and ends at 63");
    CHECK(with([](auto& b) { b.pieces[0].begin = 1; }).find("piece 0 begins at 1") != std::string::npos);
    CHECK(with([](auto& b) {
              for (std::size_t i = 6; i < b.pieces.size(); ++i) b.pieces[i].begin = 300;
          }).find("begins at 300 and ends at 263") != std::string::npos);
    CHECK(with([](auto& b) {
              for (std::size_t i : {1, 2, 3}) b.pieces[i].begin = 5;
          }) == "the phase's context is 150 tokens, and piece 3 has 189");
    CHECK(t.evaluate(good) == loss);
    CHECK(t.step(good).refused == "");
    CHECK(t.memory().in_order());
}

TEST_CASE("cuda bad input: a pattern's run-time values that were not given; they may change on the device between steps") {
    trainer<prefixed, cuda::device> t{seed{1}};
    trainer<prefixed> host{seed{1}};
    const token_batch batch = odd_batch(llama.vocabulary, 1);
    CHECK(refusal_of([&] { (void)t.step(batch); }) == "prefix: expected one prefix length per piece of the batch, but none were given");
    std::vector<index> lengths(batch.pieces.size(), 0);
    cuda_test::device_array<index> there(lengths);
    t.set_arguments({prefix_lengths{there.data()}});
    host.set_arguments({prefix_lengths{lengths.data()}});
    double before = 0;
    for (const index length : {0, 40, 7}) {
        lengths[0] = lengths[3] = length;
        there.put(lengths);
        const double loss = t.evaluate(batch);
        CHECK(loss == doctest::Approx(host.evaluate(batch)).epsilon(2e-4));
        CHECK(loss != before);
        before = loss;
    }
}

TEST_CASE("cuda trainer: run-time values of a pattern may stand elsewhere in every step, and the recorded step is replayed") {
    using device_trainer = trainer<prefixed, cuda::device>;
    device_trainer t{seed{2}};
    trainer<prefixed> host{seed{2}};
    const token_batch batch = odd_batch(llama.vocabulary, 2);
    std::vector<std::vector<index>> lengths;
    for (const index length : {0, 40, 7}) lengths.emplace_back(batch.pieces.size(), length);
    cuda_test::device_array<index> places[3]{cuda_test::device_array<index>(lengths[0]), cuda_test::device_array<index>(lengths[1]),
                                             cuda_test::device_array<index>(lengths[2])};
    const auto submit = [&](std::size_t which) {
        t.set_arguments({prefix_lengths{places[which].data()}});
        return t.submit(std::span(&batch, 1));
    };
    const auto on_host = [&](std::size_t which) {
        host.set_arguments({prefix_lengths{lengths[which].data()}});
        return host.step(batch);
    };
    for (std::size_t i = 0; i < 8; ++i) {
        const step_report ours = submit(i % 3).get(), theirs = on_host(i % 3);
        CAPTURE(i);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(1e-4));
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-3));
        CHECK(ours.high_water == plan<prefixed, cuda::device>.peak());
        CHECK(t.runtime().times_recorded() == (i == 0 ? 0 : 3));  // the beginning, the pass, the update
    }
    // Each step under way keeps the values that it was submitted with.
    constexpr std::size_t order[] = {1, 0, 2};
    const std::array<pending_step<device_trainer>, 3> under_way{submit(order[0]), submit(order[1]), submit(order[2])};
    for (std::size_t i = 0; i < 3; ++i) CHECK(under_way[i].get().loss == doctest::Approx(on_host(order[i]).loss).epsilon(1e-4));
    CHECK(t.runtime().times_recorded() == 3);
}

TEST_CASE("cuda bad input: a position beyond a learned table") {
    trainer<learned, cuda::device> t{seed{1}};
    token_batch batch = odd_batch(gpt2.vocabulary, 1);
    batch.pieces[3].position = 150 - 129;
    CHECK(t.step(batch).refused == "");
    batch.pieces[3].position += 1;
    CHECK(refusal_of([&] { (void)t.step(batch); }) == "positions are learned up to the context of 150, and piece 3 lies at 22 to 151");
    batch.pieces[3].position = 0;
    CHECK(t.step(batch).refused == "");
}

}  // namespace models
