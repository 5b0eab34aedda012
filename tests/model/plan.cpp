// SPDX-License-Identifier: Apache-2.0
//
// The plan against the step: every byte that it names is taken, and every byte that is taken is written before it is given back.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "configs.hpp"

namespace models {

namespace {

/// Fills every region with one byte when it is taken, and remembers its bytes as they are when it is given back.
struct recorder {
    unsigned char fill = 0;
    std::vector<std::pair<std::string, std::vector<std::byte>>> regions;

    static void acquired(void* state, const char*, std::span<std::byte> region) {
        std::memset(region.data(), static_cast<recorder*>(state)->fill, region.size());
    }
    static void released(void* state, const char* name, std::span<std::byte> region) {
        static_cast<recorder*>(state)->regions.emplace_back(name, std::vector(region.begin(), region.end()));
    }
    void watch(arena& memory) { memory.observe({this, acquired, released}); }
};

/// Names of regions with a byte that two runs left as they found it, and how many such bytes. A byte that was written is the same
/// in both runs: results do not depend on what memory held before.
std::map<std::string, index> untouched(const recorder& a, const recorder& b) {
    std::map<std::string, index> found;
    REQUIRE(a.regions.size() == b.regions.size());
    for (std::size_t i = 0; i < a.regions.size(); ++i) {
        REQUIRE(a.regions[i].first == b.regions[i].first);
        REQUIRE(a.regions[i].second.size() == b.regions[i].second.size());
        for (std::size_t j = 0; j < a.regions[i].second.size(); ++j) {
            if (a.regions[i].second[j] != b.regions[i].second[j]) ++found[a.regions[i].first];
        }
    }
    return found;
}

template <class Config>
void every_byte_is_written(const token_batch& batch, const std::string& except = "") {
    const auto run = [&](unsigned char fill) {
        recorder seen{fill, {}};
        trainer<Config> t{seed{3}};
        seen.watch(t.memory());
        t.memory().reset_high_water();
        (void)t.accumulate_gradients(batch);
        CHECK(t.memory().high_water() == plan<Config, host::cpu>.peak());
        CHECK(t.memory().in_order());
        t.memory().reset_high_water();
        (void)t.evaluate(batch);
        CHECK(t.memory().high_water() <= plan<Config, host::cpu>.peak());
        CHECK(t.memory().high_water() ==
              t.memory().used() + [] {
                  using memory = decoder_memory<model_of_config<Config>, attention_of<Config>, host::cpu>;
                  return memory::tables(Config::batch.budget, Config::batch.max_pieces).peak(host_alignment) +
                         memory::evaluation(Config::batch.budget).peak(host_alignment);
              }());
        t.memory().observe({});
        return seen;
    };
    // A byte of a quiet NaN in every format, and a byte of none.
    const recorder a = run(0xff), b = run(0x3c);
    CHECK(a.regions.size() > 20);
    for (const auto& [name, count] : untouched(a, b)) {
        if (name != except) FAIL_CHECK(name << ": " << count << " bytes were never written");
    }
}

using llama_config = config<llama, local, store_all, fp32>;
using gpt2_config = config<gpt2, causal, selective_products, mixed<bf16>>;
using rich_config = config<rich, local, selective, mixed<fp16>>;
using slopes_config = config<slopes, causal, recompute_every<1>, fp64>;
using waves_config = config<waves, full, store_all, tf32>;

/// Of a size that people train: GPT-2's widths at 1,024 tokens.
struct realistic {
    static constexpr decoder_shape shape{.layers = 12, .width = 768, .heads = 12, .hidden = 2048, .vocabulary = 50257, .context = 1024};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = mixed<bf16>;
    static constexpr auto batch = packed<1024>;
};

struct realistic_recomputed : realistic {
    static constexpr auto checkpoint = recompute_every<4>;
    static constexpr auto precision = fp32;
};

// What README promises: the peak, the parameters and the operations are constants.
static_assert(plan<realistic, host::cpu>.peak() <= 4 * GiB);
static_assert(plan<realistic_recomputed, host::cpu>.peak() > plan<realistic_recomputed, host::cpu>.parameters);
static_assert(plan<realistic, host::cpu>.bytes_per_token() > 0);
static_assert(parameter_count<realistic> == 50257 * 768 + 12 * (768 * 768 * 4 + 3 * 768 * 2048 + 2 * 768) + 768);
static_assert(dense_flops_per_token<realistic> == 6.0 * (12 * (768 * 768 * 4 + 3 * 768 * 2048) + 768 * 50257));
static_assert(step_layout<realistic, host::cpu>(2048, 34).peak(64) > plan<realistic, host::cpu>.peak());
// 32,768 tokens of it on a machine with little memory.
static_assert(step_layout<realistic, host::cpu>(32768, 514, [](const stack_bytes& s) { return decltype(selective)::plan(s); }).peak(64) <= 6 * GiB);

/// Small enough to run, wide enough that the roundings to the alignment are of a real step's size.
struct wide {
    static constexpr decoder_shape shape{.layers = 3, .width = 128, .heads = 4, .key_value_heads = 2, .hidden = 344, .vocabulary = 257, .context = 250};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = recompute_every<1>;
    static constexpr auto precision = mixed<bf16>;
    static constexpr auto batch = packed<251>;
};

/// The plan's peak over the same sum without rounding to the alignment.
template <class Config>
constexpr double overhead() {
    constexpr auto p = plan<Config, host::cpu>;
    return static_cast<double>(p.peak()) / static_cast<double>(p.tree.peak(1));
}
static_assert(overhead<realistic>() <= 1.02);
static_assert(overhead<realistic_recomputed>() <= 1.02);

}  // namespace

TEST_CASE("plan: every byte of a step is written in its lifetime: fp32, Llama's shape") {
    every_byte_is_written<llama_config>(odd_batch(llama.vocabulary, 1));
}
TEST_CASE("plan: every byte of a step is written in its lifetime: mixed<bf16>, GPT-2's shape") {
    every_byte_is_written<gpt2_config>(odd_batch(gpt2.vocabulary, 2));
}
TEST_CASE("plan: every byte of a step is written in its lifetime: mixed<fp16>, every option") {
    every_byte_is_written<rich_config>(odd_batch(rich.vocabulary, 3));
}
TEST_CASE("plan: every byte of a step is written in its lifetime: fp64, ALiBi") {
    every_byte_is_written<slopes_config>(odd_batch(slopes.vocabulary, 4));
}
TEST_CASE("plan: every byte of a step is written in its lifetime: tf32, a full batch, and one of padding alone") {
    every_byte_is_written<waves_config>(batch_of({97, 34}, waves.vocabulary, 5));
    // Without a target the head computes no logits.
    every_byte_is_written<waves_config>(batch_of({}, waves.vocabulary, 6), "logits of a chunk");
}

TEST_CASE("plan: what stays from step to step does not depend on what the memory held") {
    const auto stores = [] {
        trainer<rich_config> t{seed{3}};
        (void)t.step(odd_batch(rich.vocabulary, 8));
        std::vector<std::byte> all;
        const auto take = [&](auto span) {
            const auto raw = std::as_bytes(span);
            all.insert(all.end(), raw.begin(), raw.end());
        };
        take(t.store().weights());
        take(t.store().masters());
        take(t.store().gradients());
        take(t.store().first_moments());
        take(t.store().second_moments());
        return all;
    };
#if defined(__GLIBC__)
    mallopt(M_PERTURB, 0x5a);  // memory as the system gives it, filled
    const auto a = stores();
    mallopt(M_PERTURB, 0);
    CHECK(a == stores());
#else
    CHECK(stores() == stores());
#endif
}

TEST_CASE("plan: the peak is at most 1.02 of the live bytes at the worst moment") {
    // Counted byte by byte: regions as asked, without the arena's rounding.
    struct counter {
        bytes live = 0, most = 0;
        static void up(void* state, const char*, std::span<std::byte> region) {
            auto& c = *static_cast<counter*>(state);
            c.live += static_cast<bytes>(region.size());
            c.most = std::max(c.most, c.live);
        }
        static void down(void* state, const char*, std::span<std::byte> region) {
            static_cast<counter*>(state)->live -= static_cast<bytes>(region.size());
        }
    };
    trainer<wide> t{seed{1}};
    counter c;
    t.memory().observe({&c, counter::up, counter::down});
    (void)t.accumulate_gradients(batch_of({100, 140}, 257, 1, 251, wide::batch.max_pieces));
    t.memory().observe({});
    const bytes exact = standing_memory<wide>().peak(1) + c.most;
    CHECK(static_cast<double>(plan<wide, host::cpu>.peak()) <= 1.02 * static_cast<double>(exact));
    CHECK(plan<wide, host::cpu>.tree.peak(1) == exact);
}

}  // namespace models
