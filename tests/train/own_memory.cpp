// SPDX-License-Identifier: Apache-2.0
//
// A trainer whose backend has memory of its own, as a GPU has, played by the host's ops: batches and run-time values of patterns are
// copied into the regions that the plan names, always the same ones, and ops read them there and nowhere else.
#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <span>
#include <vector>

#include <longspan/cuda/device.hpp>

#include "../model/configs.hpp"

namespace models {

namespace {

struct apart : host::cpu {
    static constexpr bool in_host_memory = false;
    static constexpr const char* name = "host, memory apart";
    static constexpr bytes batch_memory(index tokens, index max_pieces) { return cuda::device::batch_memory(tokens, max_pieces); }

    class runtime : public host::runtime {
    public:
        explicit runtime(bytes size, bytes batch, bytes pinned) : host::runtime(size, batch, pinned), most_(batch) {}
        void next_batch() { staged_ = 0, places_.clear(); }
        template <class T>
        const T* stage(std::span<const T> from, T* room) {
            const std::byte *at = reinterpret_cast<const std::byte*>(room), *begin = memory().data();
            CHECK(at >= begin);
            CHECK(at + from.size_bytes() <= begin + memory().size());
            std::memcpy(room, from.data(), from.size_bytes());
            staged_ += round_up(static_cast<bytes>(from.size_bytes()), alignment);
            CHECK(staged_ <= most_);
            places_.push_back(room);
            return room;
        }
        template <class T>
        T* stage_out(std::span<T> to, T* room) {
            return to.empty() ? nullptr : room;
        }
        template <class T>
        void collect(const T* room, std::span<T> to) {
            std::memcpy(to.data(), room, to.size_bytes());
        }
        /// What a replayed step would find: other values than those that were there when ops were asked.
        void batch_placed() {
            ways_.insert(places_);
            if (instead_ == nullptr) return;
            auto* const there = static_cast<prefix_lengths*>(const_cast<void*>(places_[4]));
            *there = {instead_};
        }
        void replace(const index* lengths) { instead_ = lengths; }
        [[nodiscard]] std::size_t ways() const { return ways_.size(); }

    private:
        bytes most_, staged_ = 0;
        std::vector<const void*> places_;
        std::set<std::vector<const void*>> ways_;
        const index* instead_ = nullptr;
    };
};

struct told {
    static constexpr decoder_shape shape = llama;
    static constexpr auto attention = stack<causal | prefix, causal, causal & block_list>;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp32;
    static constexpr auto batch = packed<budget>.template pieces<16>();
};
/// Its patterns are others, and want values as well.
struct told_otherwise : told {
    static constexpr auto attention = causal & block_list;
};
using run = phases<told, told_otherwise>;

/// Every block of queries sees its own keys and those `back` blocks before it.
struct some_blocks {
    std::vector<index> offsets{0}, transposed_offsets;
    std::vector<std::int32_t> ids, transposed_ids;
    block_lists lists;

    explicit some_blocks(int back) {
        constexpr int blocks = 20;
        for (int b = 0; b < blocks; ++b) {
            if (b >= back) ids.push_back(b - back);
            ids.push_back(b);
            offsets.push_back(static_cast<index>(ids.size()));
        }
        transposed_offsets.resize(blocks + 1);
        transposed_ids.resize(ids.size());
        const block_rows rows{offsets.data(), ids.data(), blocks};
        lists = {.block = 5, .keys_of_query = rows, .queries_of_key = transpose(rows, blocks, transposed_offsets.data(), transposed_ids.data())};
    }
};

template <class Trainer>
std::vector<float> gradients_of(Trainer& t) {
    const auto all = t.store().gradients();
    return {all.begin(), all.end()};
}

}  // namespace

TEST_CASE("trainer: a backend with memory of its own finds batches and run-time values of patterns at one place, whatever they are") {
    trainer<run, apart> there{seed{3}};
    trainer<told> here{seed{3}};
    const some_blocks near(1), far(3);
    std::vector<index> none(16, 0), some(16, 20), others(16, 7);
    const auto tell = [&](const std::vector<index>& lengths, const some_blocks& blocks) {
        const stack_arguments<attention_of<told>> values{prefix_lengths{lengths.data()}, no_arguments{}, blocks.lists};
        there.set_arguments<told>(values);
        here.set_arguments(values);
    };
    double last = 0;
    for (const auto& [lengths, blocks] : {std::pair(&none, &near), std::pair(&some, &near), std::pair(&some, &far), std::pair(&others, &far)}) {
        tell(*lengths, *blocks);
        const token_batch batch = odd_batch(llama.vocabulary, 20);
        const step_report report = there.step<told>(batch);
        CHECK(report.loss == here.step(batch).loss);
        CHECK(report.loss != last);
        CHECK(gradients_of(there) == gradients_of(here));
        CHECK(report.high_water == plan<told, apart>.peak());
        last = report.loss;
    }
    CHECK(there.runtime().ways() == 1);

    // What stands there when ops run is what counts.
    const token_batch batch = odd_batch(llama.vocabulary, 21);
    const double asked = here.evaluate(batch);
    CHECK(there.evaluate<told>(batch) == asked);
    there.runtime().replace(some.data());
    const double replaced = there.evaluate<told>(batch);
    tell(some, far);
    CHECK(replaced == here.evaluate(batch));
    CHECK(replaced != asked);
    there.runtime().replace(nullptr);

    std::vector<double> ours(budget), theirs(budget);
    (void)there.evaluate<told>(batch, ours);
    (void)here.evaluate(batch, theirs);
    CHECK(ours == theirs);
}

TEST_CASE("trainer: a phase of other patterns misses its own run-time values, whatever the first was given") {
    trainer<run, apart> t{seed{3}};
    std::vector<index> lengths(16, 0);
    const some_blocks near(1);
    t.set_arguments<told>({prefix_lengths{lengths.data()}, no_arguments{}, near.lists});
    const token_batch batch = odd_batch(llama.vocabulary, 22);
    CHECK(t.evaluate<told>(batch) > 0);
    CHECK_THROWS_WITH_AS((void)t.evaluate<told_otherwise>(batch), "block_list: expected offsets of both directions, but none were given", bad_argument);
}

}  // namespace models
