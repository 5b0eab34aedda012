// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <type_traits>
#include <vector>

#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/selective.hpp>

#include "../memory/late_copies.hpp"

namespace ls = longspan;
using ls::index;

namespace {

/// Regions without contents: what a policy asks of it, written down.
struct token_region {
    ls::arena* from = nullptr;
    std::byte* at = nullptr;
    ls::bytes size = 0;
    int value = -1;
    void take(ls::arena& memory, ls::bytes wanted) {
        drop();
        from = &memory, size = wanted, at = memory.acquire("", size);
    }
    void drop() noexcept {
        if (at) from->release("", at, size);
        at = nullptr;
        value = -1;
    }
    token_region() = default;
    token_region(token_region&&) = delete;
    ~token_region() { drop(); }
};

/// A stack whose stream counts blocks, and which complains when it is run on what is not there. What a block saves is a tensor of each
/// cost, of a size of its own.
template <index Blocks>
struct counting_stack {
    static constexpr index blocks = Blocks;
    static constexpr std::array<ls::bytes, 4> sizes{64, 320, 192, 128};  // in the order of `cost`
    static inline std::array<ls::bytes, 5> scratch{0, 256, 128, 512, 320};
    struct stream : token_region {
        void hold(ls::arena& within, index) { take(within, 64); }
    };
    struct saved {
        std::array<token_region, 4> of;
        ls::arena* within = nullptr;
        ls::cost from = ls::cost::pass;
        saved() = default;
        saved(ls::arena& in, index count) { hold(in, count); }
        void hold(ls::arena& in, index, ls::cost least = ls::cost::pass) {
            within = &in, from = least;
            for (std::size_t i = 0; i < 4; ++i) if (ls::cost(i) >= from) of[i].take(in, sizes[i]);
        }
        void hold_rest() {
            for (std::size_t i = 0; i < 4; ++i) if (ls::cost(i) < from) of[i].take(*within, sizes[i]);
        }
        void drop_rest() noexcept {
            for (std::size_t i = 4; i-- > 0;) if (ls::cost(i) < from) of[i].drop();
        }
        void drop() noexcept {
            drop_rest();
            for (std::size_t i = 4; i-- > 0;) of[i].drop();
        }
        ~saved() { drop(); }
        [[nodiscard]] bool whole(int block, ls::cost least = ls::cost::pass) const {
            for (std::size_t i = 0; i < 4; ++i) if (!of[i].at || (ls::cost(i) >= least && i > 0 && of[i].value != block)) return false;
            return true;
        }
    };
    ls::arena& memory;
    index next = Blocks - 1;
    std::array<index, 5> made{};  // how often a tensor of each cost was made; `output`: the block's output
    bool right = true;
    ls::arena* away = nullptr;
    late::copies copies{};

    [[nodiscard]] index tokens() const { return 1; }
    [[nodiscard]] ls::arena& pinned() { return *away; }
    /// What a tensor is worth of a copy: its value.
    static auto pieces(const token_region& here, const token_region& there) {
        return [&](auto&& copy) {
            if (!here.at || !there.at || here.size != there.size) throw 2;
            copy(bytes_of(here.value), bytes_of(there.value), ls::bytes{sizeof(int)});
        };
    }
    static auto pieces(const saved& here, const saved& there) {
        return [&](auto&& copy) {
            if (here.from != there.from) throw 2;
            for (std::size_t i = 0; i < 4; ++i) if (ls::cost(i) >= here.from) pieces(here.of[i], there.of[i])(copy);
        };
    }
    static std::byte* bytes_of(const int& value) { return reinterpret_cast<std::byte*>(const_cast<int*>(&value)); }
    template <class T>
    void leave(index number, T& here, T& there) { copies.leave(number, pieces(here, there)); }
    template <class T>
    void fetch(index number, T& here, T& there) { copies.fetch(number, pieces(here, there)); }
    void wait(index number) { copies.wait(number); }
    template <ls::cost From = ls::cost::output>
    void forward(index b, stream& x, stream* y, saved& kept) {
        // What is worth From is there already, and nothing else is.
        right = right && x.at && kept.whole(static_cast<int>(b), From) && x.value == b && (!y || (y->at && y != &x));
        for (std::size_t i = 0; i < 4; ++i) {
            if (ls::cost(i) >= From) continue;
            right = right && kept.of[i].value != b;
            kept.of[i].value = static_cast<int>(b);
            ++made[i];
            const ls::held_region held(memory, "", scratch[i]);
        }
        if (!y) return;
        y->value = static_cast<int>(b) + 1;
        ++made[4];
        const ls::held_region held(memory, "", scratch[4]);
    }
    void backward(index b, stream& x, saved& kept) {
        right = right && b == next && x.at && x.value == b && kept.whole(static_cast<int>(b));
        --next;
        const ls::held_region held(memory, "", 256);
    }

    static ls::stack_bytes bytes() {
        ls::layout saved = ls::together("saved"), forward = ls::either("forward");
        for (std::size_t i = 0; i < 4; ++i) saved.add(ls::region("", sizes[i], ls::cost(i)));
        for (std::size_t i = 0; i < 5; ++i) forward.add(ls::region("", scratch[i], ls::cost(i)));
        return {.blocks = Blocks, .stream = 64, .saved = saved, .forward_scratch = forward, .backward_scratch = ls::region("", 256),
                .turn = ls::region("", 192)};
    }
};
static_assert(ls::block_stack<counting_stack<3>> && ls::offloading_stack<counting_stack<3>>);

/// Ends in the middle.
struct throwing_stack : counting_stack<7> {
    index calls;
    template <ls::cost From = ls::cost::output>
    void forward(index b, stream& x, stream* y, saved& kept) {
        const ls::held_region held(memory, "", 64);
        if (calls-- == 0) throw 1;
        counting_stack<7>::forward<From>(b, x, y, kept);
    }
    void backward(index b, stream& x, saved& kept) {
        if (calls-- == 0) throw 1;
        counting_stack<7>::backward(b, x, kept);
    }
};

template <auto Policy, index Blocks>
void check() {
    using policy = std::remove_cvref_t<decltype(Policy)>;
    static_assert(ls::checkpoint_policy<policy>);
    if constexpr (policy::covers(Blocks)) for (const bool at_once : {false, true}) {
        ls::arena memory(1 << 16), pinned(1 << 16);
        counting_stack<Blocks> stack{memory};
        stack.away = &pinned, stack.copies.at_once = at_once;
        bool turned = false;
        policy::run(
            stack, memory, [](auto& x) { x.value = 0; },
            [&](auto& x) {
                turned = x.value == Blocks && stack.next == Blocks - 1;
                const ls::held_region scratch(memory, "", 192);
            });
        CHECK(turned);
        CHECK(stack.right);
        CHECK(stack.next == -1);
        // A norm's statistics come back in the backward itself: nothing is made again for them alone.
        for (std::size_t i = 1; i < 5; ++i) CHECK(stack.made[i] == Blocks + policy::made_again(ls::cost(i), Blocks));
        CHECK(memory.used() == 0);
        CHECK(memory.in_order());
        CHECK(memory.high_water() == policy::plan(counting_stack<Blocks>::bytes()).peak(64));
        CHECK(stack.copies.settled());
        CHECK(pinned.used() == 0);
        CHECK(pinned.in_order());
        CHECK(pinned.high_water() == policy::pinned(counting_stack<Blocks>::bytes()).peak(64));
        if (!policy::offloads) break;
    }
}

/// Attention's tensors and the stream at every second block are kept.
constexpr ls::segment_policy<ls::block_rule{.segment = 2, .kept_from = ls::cost::attention}> pairs{};
constexpr auto then_all = ls::recompute_every<3>.for_blocks<5>().then(ls::store_all);
constexpr auto then_selective = ls::recompute_every<4>.for_blocks<5>().then(ls::selective);
constexpr auto then_pairs = ls::recompute_every<4>.for_blocks<3>().then(pairs);

constexpr auto away = ls::offload<ls::selective>;
constexpr auto then_away = ls::recompute_every<2>.for_blocks<3>().then(ls::offload<pairs>);
constexpr auto away_then_all = ls::offload<ls::recompute_every<4>>.for_blocks<7>().then(ls::store_all);
constexpr auto away_twice = ls::offload<ls::recompute_every<3>>.for_blocks<5>().then(ls::offload<ls::selective, 3>.for_blocks<2>()).then(ls::offload<pairs>);

template <index Blocks>
void check_all(ls::bytes scratch_of_outputs) {
    counting_stack<Blocks>::scratch[4] = scratch_of_outputs;
    check<ls::store_all, Blocks>();
    check<ls::recompute_every<1>, Blocks>();
    check<ls::recompute_every<2>, Blocks>();
    check<ls::recompute_every<3>, Blocks>();
    check<ls::recompute_every<4>, Blocks>();
    check<ls::recompute_every<50>, Blocks>();
    check<ls::recompute_root, Blocks>();
    check<ls::selective, Blocks>();
    check<ls::selective_products, Blocks>();
    check<pairs, Blocks>();
    check<then_all, Blocks>();
    check<then_pairs, Blocks>();
    check<then_selective, Blocks>();
    check<ls::store_all.for_blocks<1>().then(ls::selective.for_blocks<2>()).then(ls::recompute_every<3>), Blocks>();
    check<away, Blocks>();
    check<ls::offload<ls::selective, 5>, Blocks>();
    check<ls::offload<ls::recompute_every<2>, 3>, Blocks>();
    check<ls::offload<pairs>, Blocks>();
    check<then_away, Blocks>();
    check<away_twice, Blocks>();
    check<away_then_all, Blocks>();
    check<ls::recompute_root.for_blocks<7>().then(ls::selective_products.for_blocks<5>()), Blocks>();
}

}  // namespace

TEST_CASE("policy: every block runs backward once, in order, on what its forward saved; the plan is what was held") {
    // Outputs are made in little, or in more than anything else.
    for (const ls::bytes scratch : {320, 1600}) {
        check_all<1>(scratch);
        check_all<2>(scratch);
        check_all<3>(scratch);
        check_all<4>(scratch);
        check_all<7>(scratch);
        check_all<12>(scratch);
    }
}

TEST_CASE("policy: an exception gives every region back, in order, wherever it comes") {
    const auto run = [](auto policy, index throws_at) {
        ls::arena memory(1 << 16), pinned(1 << 16);
        throwing_stack stack{{memory}, throws_at};
        stack.away = &pinned;
        CHECK_THROWS_AS(decltype(policy)::run(stack, memory, [](auto& x) { x.value = 0; }, [](auto&) {}), int);
        CHECK(memory.used() + pinned.used() == 0);
        CHECK(memory.in_order());
        CHECK(pinned.in_order());
    };
    for (index call = 0; call < 14; ++call) {
        run(ls::store_all, call);
        run(ls::recompute_every<3>, call);
        run(ls::selective, call);
        run(away, call);
        run(pairs.for_blocks<5>().then(ls::recompute_every<2>), call);
    }
}

TEST_CASE("policy: an arena one byte short is refused, and everything comes back") {
    const auto run = [](auto policy) {
        const ls::bytes peak = decltype(policy)::plan(counting_stack<7>::bytes()).peak(64);
        const ls::bytes most = decltype(policy)::pinned(counting_stack<7>::bytes()).peak(64);
        ls::arena enough(peak), memory(peak - 1), pinned(most), short_pinned(most > 0 ? most - 1 : 0);
        counting_stack<7> stack{enough}, refused{memory};
        stack.away = refused.away = &pinned;
        const auto turn = [](ls::arena& in) { return [&](auto&) { const ls::held_region scratch(in, "", 192); }; };
        decltype(policy)::run(stack, enough, [](auto& x) { x.value = 0; }, turn(enough));
        CHECK_THROWS_AS(decltype(policy)::run(refused, memory, [](auto& x) { x.value = 0; }, turn(memory)), ls::out_of_memory);
        CHECK(memory.used() + pinned.used() == 0);
        CHECK(memory.in_order());
        if (most == 0) return;
        stack.away = &short_pinned, stack.next = 6;
        CHECK_THROWS_AS(decltype(policy)::run(stack, enough, [](auto& x) { x.value = 0; }, turn(enough)), ls::out_of_memory);
        CHECK(enough.used() + short_pinned.used() == 0);
        CHECK(short_pinned.in_order());
    };
    run(away);
    run(ls::store_all);
    run(ls::recompute_every<2>);
    run(ls::selective);
    run(ls::selective_products);
    run(pairs.for_blocks<5>().then(ls::recompute_every<2>));
}
