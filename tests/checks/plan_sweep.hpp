// SPDX-License-Identifier: Apache-2.0
//
// What tests/checks/plan_sweep asks of every config that it draws: an arena of exactly the plan serves two steps, which fill it to the
// byte; in a byte less no trainer is made; and what `longest_within`, `budget_within` and `fit` say fits into a room is the last that
// does, and does. A config has, beside its five constants, `room_share`, how far that room lies between its least plan and its own,
// `choices`, the policies among which `fit` chooses, and `alignment`, of regions.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <longspan/longspan.hpp>
#ifdef __CUDACC__
#include <longspan/cuda/trainer.cuh>
#endif

namespace sweep {

using namespace longspan;
using longspan::index;  // not POSIX's

/// Blocks of four positions that see their own and every third.
inline constexpr auto map = block_map_of<4, 16>([](index q, index k) { return q == k || (q + k) % 3 == 0; });

/// Bytes that a trainer may take.
inline bytes room_now = 0;

inline bytes within_room(bytes size) {
    expects<out_of_memory>(size <= room_now, [&] { return "the plan needs " + std::to_string(size) + " bytes"; });
    return size;
}

#ifndef __CUDACC__

/// The host, when it knows how much room there is, as a GPU does. Where regions are not rounded up to whole cache lines, single bytes show.
template <class Config>
struct backend_of : host::cpu {
    static constexpr bytes alignment = Config::alignment;
    struct runtime : host::runtime {
        explicit runtime(bytes size, bytes batch = 0, bytes pinned = 0) : host::runtime(within_room(size), batch, pinned) {}
    };
};
/// Regions hold a byte of a quiet NaN when they are taken, and again when they are given back.
inline void poison(void*, const char*, std::span<std::byte> region) { std::memset(region.data(), 0xff, region.size()); }
/// Where the backend's kernels find them.
inline const index* there(const std::vector<index>& values) { return values.data(); }
inline constexpr std::size_t steps = 2;
inline bool can_run() { return true; }

#else

/// A GPU of so much room.
template <class Config>
struct backend_of : cuda::device {
    struct runtime : cuda::device::runtime {
        explicit runtime(bytes size, bytes batch = 0, bytes pinned = 0) : cuda::device::runtime(within_room(size), batch, pinned) {}
    };
};
/// The same in the order of the device's work, recorded and replayed with it; pinned regions too.
inline void poison(void* on, const char*, std::span<std::byte> region) {
    if (region.empty()) return;
    cuda::check(cudaMemsetAsync(region.data(), 0xff, region.size(), static_cast<cuda::device::runtime*>(on)->stream()), "poison");
}
inline const index* there(const std::vector<index>& values) {
    void* copy = nullptr;  // for as long as the program runs
    const std::size_t size = values.size() * sizeof(index);
    cuda::check(cudaMalloc(&copy, size), "sweep");
    cuda::check(cudaMemcpy(copy, values.data(), size, cudaMemcpyHostToDevice), "sweep");
    return static_cast<const index*>(copy);
}
inline constexpr std::size_t steps = 3;  // the first does its work, the second is recorded, the third is replayed
inline bool can_run() {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

#endif

/// What went wrong with the config at hand.
inline std::string wrong;
inline void expect(bool holds, const std::string& sentence) {
    if (!holds) wrong += (wrong.empty() ? "" : "; ") + sentence;
}
inline void expect_bytes(const char* what, bytes measured, bytes planned) {
    expect(measured == planned, what + (": planned " + std::to_string(planned) + ", measured " + std::to_string(measured)));
}

/// Documents without an end, so that every token has a target.
struct endless {
    index ids = 0;
    [[nodiscard]] index count() const { return 1; }
    [[nodiscard]] index size(index) const { return index{1} << 40; }
    [[nodiscard]] std::string name(index) const { return "endless"; }
    [[nodiscard]] std::uint64_t digest(index) const { return 0; }
    [[nodiscard]] index vocabulary() const { return ids; }
    void read(index document, index, std::span<token_id> out) const {
        std::mt19937_64 random(static_cast<std::uint64_t>(document));
        for (token_id& t : out) t = static_cast<token_id>(random() % static_cast<std::uint64_t>(ids));
    }
};

/// Lengths of documents, the longest among them, enough for so many batches.
inline std::vector<index> some_lengths(index tokens, index context) {
    std::mt19937_64 random(1);
    std::vector<index> lengths{context};
    for (; tokens > 0; tokens -= lengths.back()) lengths.push_back(1 + static_cast<index>(random() % static_cast<std::uint64_t>(context)));
    return lengths;
}

inline token_batch filled(const batch_placements& placements, const std::vector<index>& lengths, index vocabulary, index budget,
                          index max_pieces) {
    std::vector<planned_piece> pieces;
    for (const placement& p : placements) {
        const index length = lengths[static_cast<std::size_t>(p.item)];
        pieces.push_back({p.item, length + 1, 0, length, {p.item, 0, p.begin}});
    }
    token_batch batch;
    assemble(batch, endless{vocabulary}, pieces, budget, max_pieces);
    return batch;
}

/// As its own strategy lays them.
template <class Config>
std::vector<token_batch> some_batches(index count) {
    using strategy = batching_of<Config>;
    strategy::check(Config::shape.context);
    const std::vector<index> lengths = some_lengths(count * strategy::budget, Config::shape.context);
    std::vector<token_batch> batches;
    for (const batch_placements& placements : strategy::lay(lengths, Config::shape.context)) {
        if (static_cast<index>(batches.size()) == count) break;
        batches.push_back(filled(placements, lengths, Config::shape.vocabulary, strategy::budget, strategy::max_pieces));
    }
    return batches;
}

/// Run-time values of the patterns that have some: a prefix for every piece, and a width.
inline void choose_values(no_arguments&) {}
inline void choose_values(prefix_lengths& prefix) {
    static const std::vector<index> lengths(4096, 3);
    static const index* const at = there(lengths);
    prefix.lengths = at;
}
inline void choose_values(window_width& window) { window.width = 5; }
template <class A, class B>
void choose_values(paired_arguments<A, B>& both) {
    choose_values(both.left);
    choose_values(both.right);
}

inline void check_step(const step_report& report, bytes planned, bytes pinned) {
    expect(report.refused.empty(), "a step was refused: " + report.refused);
    expect(std::isfinite(report.loss) && std::isfinite(report.gradient_norm) && report.gradient_norm > 0, "a step without a gradient");
    expect_bytes("a step", report.high_water, planned);
    expect_bytes("a step's pinned memory", report.memory.pinned, pinned);
}

inline void check_rest(arena& memory, bytes planned) {
    expect_bytes("what stays", memory.used(), planned);
    expect(memory.in_order(), "regions were given back in another order");
}

/// Some steps and an evaluation in exactly the plan's bytes; nothing in a byte less.
template <class Config>
void runs_as_planned() {
    constexpr auto planned = plan<Config, backend_of<Config>>;
    constexpr bytes peak = planned.peak();
    using trainer_type = trainer<Config, backend_of<Config>>;
    bool refused = false;
    room_now = peak - 1;
    try {
        trainer_type(seed{1});
    } catch (const out_of_memory&) {
        refused = true;
    }
    expect(refused, "a byte less than the plan was not refused");

    room_now = peak;
    trainer_type t{seed{1}};
    expect_bytes("the arena", t.memory().capacity(), peak);
    expect_bytes("the pinned arena", t.pinned().capacity(), planned.pinned);
    check_rest(t.memory(), planned.parameters);
    t.memory().observe({&t.runtime(), poison, poison});
    t.pinned().observe({&t.runtime(), poison, poison});
    if (t.state().scale.dynamic) t.state().scale.value = 1;
    stack_arguments<attention_of<Config>> values{};
    std::apply([](auto&... of_pattern) { (choose_values(of_pattern), ...); }, values);
    t.set_arguments(values);

    const std::size_t each = Config::batch.micro_batches;
    const std::vector<token_batch> batches = some_batches<Config>(static_cast<index>(steps * each));
    const std::span<const token_batch> all(batches);
    expect(all.size() == steps * each, "too few batches");
    for (std::size_t begin = 0; begin < all.size(); begin += each) check_step(t.step(all.subspan(begin, each)), peak, planned.pinned);
    expect(std::isfinite(t.evaluate(all.front())), "an evaluation that is not finite");
    check_rest(t.memory(), planned.parameters);
    check_rest(t.pinned(), 0);
}

/// What a step of Config takes at any budget.
template <class Config>
constexpr bytes takes(index tokens) {
    return detail::peak_at<Config, backend_of<Config>>(tokens, &checkpoint_of<Config>::plan);
}

/// The budget found fits, and the next does not.
template <class Config>
void finds_budgets(bytes room) {
    const index step = Config::batch.fills == filling::padded ? Config::shape.context : 1;
    const index found = longest_within<Config, backend_of<Config>>(room), within = budget_within<Config, backend_of<Config>>(room);
    const std::string in_room = " in " + std::to_string(room) + " bytes";
    expect(found % step == 0 && (found == 0 || takes<Config>(found) <= room), "longest_within says " + std::to_string(found) + in_room);
    expect(takes<Config>(found + step) > room, "longest_within says no more than " + std::to_string(found) + in_room);
    const index expected = found < Config::batch.budget ? found : Config::batch.budget;
    expect(within == expected, "budget_within says " + std::to_string(within) + ", expected " + std::to_string(expected) + in_room);
}

template <class Config>
void fits_as_said() {
    constexpr bytes whole = takes<Config>(Config::batch.budget), least = takes<Config>(Config::shape.context);
    constexpr bytes room = least + static_cast<bytes>(Config::room_share * static_cast<double>(whole - least));
    expect_bytes("the layout", whole, plan<Config, backend_of<Config>>.peak());
    for (const bytes any : {bytes{0}, least - 1, least, room, whole - 1, whole, whole + 1, 3 * whole}) finds_budgets<Config>(any);
    constexpr index step = update_of<Config>::in_buckets ? 0 : Config::batch.budget * Config::batch.micro_batches;
    using chosen = fit<Config, backend_of<Config>, room, step,
                       budgets<Config::batch.budget, longest<Config, backend_of<Config>, room>, Config::shape.context>, Config::choices>;
    expect(chosen::chosen.peak <= room, "fit chose " + std::to_string(chosen::chosen.peak) + " bytes in " + std::to_string(room));
    expect_bytes("fit", plan<chosen, backend_of<chosen>>.peak(), chosen::chosen.peak);
    expect_bytes("fit's pinned memory", plan<chosen, backend_of<chosen>>.pinned, chosen::chosen.pinned);
    runs_as_planned<chosen>();
}

/// Whether all of this holds; if not, prints what does not.
template <class Config>
bool holds(const char* name) {
    wrong.clear();
    try {
        runs_as_planned<Config>();
        fits_as_said<Config>();
    } catch (const std::exception& e) {
        expect(false, e.what());
    }
    if (!wrong.empty()) std::printf("%s\n    %s\n", name, wrong.c_str());
    return wrong.empty();
}

}  // namespace sweep
