// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>
#include <vector>

#include <longspan/checkpoint/recompute.hpp>

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

/// A stack whose stream counts blocks, and which complains when it is run on what is not there.
template <index Blocks>
struct counting_stack {
    static constexpr index blocks = Blocks;
    struct stream : token_region {
        void hold(ls::arena& within, index) { take(within, 64); }
    };
    struct saved : token_region {
        saved() = default;
        saved(ls::arena& within, index count) { hold(within, count); }
        void hold(ls::arena& within, index) { take(within, 640); }
    };
    ls::arena& memory;
    index forwards = 0, next = Blocks - 1;
    bool right = true;

    [[nodiscard]] index tokens() const { return 1; }
    void forward(index b, stream& x, stream* y, saved& kept) {
        right = right && x.at && kept.at && x.value == b && (!y || (y->at && y != &x));
        kept.value = static_cast<int>(b);
        if (y) y->value = static_cast<int>(b) + 1;
        ++forwards;
        const ls::held_region scratch(memory, "", 128);
    }
    void backward(index b, stream& x, saved& kept) {
        right = right && b == next && x.at && x.value == b && kept.at && kept.value == b;
        --next;
        const ls::held_region scratch(memory, "", 256);
    }
};
static_assert(ls::block_stack<counting_stack<3>>);

template <auto Policy, index Blocks>
void check() {
    using policy = std::remove_cvref_t<decltype(Policy)>;
    static_assert(ls::checkpoint_policy<policy>);
    ls::arena memory(1 << 16);
    counting_stack<Blocks> stack{memory};
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
    CHECK(stack.forwards == Blocks + policy::recomputed(Blocks));
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
    const ls::stack_bytes sizes{.blocks = Blocks, .stream = 64, .saved = ls::region("", 640), .forward_scratch = ls::region("", 128),
                                .backward_scratch = ls::region("", 256), .turn = ls::region("", 192)};
    CHECK(memory.high_water() == policy::plan(sizes).peak(64));
}

template <index Blocks>
void check_all() {
    check<ls::store_all, Blocks>();
    check<ls::recompute_every<1>, Blocks>();
    check<ls::recompute_every<2>, Blocks>();
    check<ls::recompute_every<3>, Blocks>();
    check<ls::recompute_every<4>, Blocks>();
    check<ls::recompute_every<50>, Blocks>();
}

}  // namespace

TEST_CASE("policy: every block runs backward once, in order, on what its forward saved; the plan is what was held") {
    check_all<1>();
    check_all<2>();
    check_all<3>();
    check_all<4>();
    check_all<7>();
    check_all<12>();
}

TEST_CASE("policy: an exception gives every region back, in order") {
    ls::arena memory(1 << 16);
    counting_stack<7> stack{memory};
    const auto run = [&] {
        std::remove_cvref_t<decltype(ls::recompute_every<3>)>::run(
            stack, memory, [](auto& x) { x.value = 0; }, [](auto&) { throw 1; });
    };
    CHECK_THROWS_AS(run(), int);
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
}
