// SPDX-License-Identifier: Apache-2.0
//
// What training steps take on a GPU, before there is a GPU: everything here is a constant of the compiler's. Prints the bytes of two
// models under every policy, what `longest` and `fit` choose and are expected to take, and, into a folder, the pictures of docs/memory.md:
//     07_what_fits docs/memory
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>

#include <longspan/cuda/device.hpp>
#include <longspan/longspan.hpp>
#include <longspan/model/draw.hpp>
#include <longspan/model/forecast.hpp>

namespace ls = longspan;

namespace {

using device = ls::cuda::device;

/// 124 million parameters.
struct a {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 12, .width = 768, .heads = 12, .hidden = 2048, .vocabulary = 50304, .context = 131072, .loss_chunk = 8192};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<131072>;
};

/// 875 million parameters.
struct b {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 16, .width = 2048, .heads = 16, .hidden = 5504, .vocabulary = 32000, .context = 32768, .loss_chunk = 4096};
    static constexpr auto attention = ls::causal & ls::window<1024>;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<32768>;
};

// b on two residual streams in fixed point: a block's input is made of its output, so that nothing is kept, whatever the depth.
struct b_on_two_streams : b {
    static constexpr auto shape = [] {
        ls::decoder_shape s = b::shape;
        s.residual = ls::residual_kind::two_streams;
        s.token_chunk = 32768;  // tokens of which all that is made token by token exists at once
        s.head_group = 4;       // heads, of 16, of which queries, keys, values and their gradients do
        return s;
    }();
    static constexpr auto checkpoint = ls::reversible;
    static constexpr auto batch = ls::packed<524288>;
};
static_assert(ls::plan<b_on_two_streams, device>.peak() <= 33 * ls::GiB);

// The first eight blocks keep their inputs, the others also what attention made: a policy of two.
constexpr auto halves = ls::recompute_every<1>.for_blocks<8>().then(ls::selective);

template <class Model, auto Policy>
struct under : Model {
    static constexpr auto checkpoint = Policy;
};

// Of b's policies at these budgets, the one that fits into 24 GiB and makes the least again, and 524,288 tokens a step.
using chosen = ls::fit<b, device, 24 * ls::GiB, 524288, ls::budgets<65536, 32768>>;
static_assert(ls::plan<chosen, device>.peak() <= 24 * ls::GiB);
static_assert(chosen::batch.budget * chosen::batch.micro_batches == 524288);

// What its step is expected to take on an H200, and how many tokens a day makes.
constexpr ls::step_forecast expected = ls::forecast<chosen, device>();
static_assert(expected.tokens_in(24) > 6e9);

// Eight times as long a batch: what each block keeps leaves for pinned host memory, and returns ahead of the block's backward.
struct longer : b {
    static constexpr auto checkpoint = ls::offload<ls::selective>;
    static constexpr auto batch = ls::packed<262144>;
};
static_assert(ls::plan<longer, device>.peak() <= 40 * ls::GiB);
static_assert(ls::plan<longer, device>.pinned <= 29 * ls::GiB);

// Another device, by its rates.
struct elsewhere : b {
    static constexpr ls::device_rates rates{.products = 300e12, .attention = {.forward = 250e12, .backward = 200e12}, .to_host = 25e9, .from_host = 25e9};
    static constexpr auto checkpoint = ls::offload<ls::recompute_every<1>>;
};
static_assert(ls::plan<elsewhere, device>.pinned > 0);

template <class Model, auto Policy>
void row(const char* name) {
    using config = under<Model, Policy>;
    constexpr auto plan = ls::plan<config, device>;
    constexpr double again = ls::made_again<config, ls::checkpoint_of<config>>() / 1e6;
    std::cout << "| " << std::left << std::setw(36) << name << " | " << std::right << std::setw(15) << plan.peak() << " | " << std::setw(6)
              << std::fixed << std::setprecision(2) << static_cast<double>(plan.peak()) / ls::GiB << " | " << std::setw(6)
              << static_cast<double>(plan.pinned) / ls::GiB << " | " << std::setw(7)
              << static_cast<ls::index>(plan.bytes_per_token()) << " | " << std::setw(6) << std::setprecision(0) << again << " | "
              << std::setw(9) << ls::longest_within<config, device>(139 * ls::GiB) << " |\n";
}

/// A million tokens and more of b_on_two_streams, with 4 bytes a parameter.
template <ls::index Tokens, ls::index Chunk, ls::index Group>
struct long_step : b_on_two_streams {
    static constexpr auto shape = [] {
        ls::decoder_shape s = b_on_two_streams::shape;
        s.context = Tokens, s.token_chunk = Chunk, s.head_group = Group;
        return s;
    }();
    static constexpr auto batch = ls::packed<Tokens>;
    static constexpr auto update = ls::moments<ls::eight_bit>.without_masters().by_bucket();
};
template <ls::index Tokens, ls::index Chunk, ls::index Group>
void long_row() {
    constexpr auto plan = ls::plan<long_step<Tokens, Chunk, Group>, device>;
    std::cout << "| " << std::setw(7) << Tokens << " | " << std::setw(5) << Chunk << " | " << std::setw(2) << Group << " | " << std::setw(6)
              << std::setprecision(2) << static_cast<double>(plan.peak()) / ls::GiB << " | " << std::setw(6)
              << static_cast<ls::index>(plan.bytes_per_token()) << " |\n";
}

template <class Model>
void head(const char* name) {
    std::cout << name << ", " << Model::batch.budget << " tokens\n"
              << "| policy | bytes | GiB | GiB pinned | bytes a token | MFLOP a token made again | longest within 139 GiB |\n"
              << "| --- | --- | --- | --- | --- | --- | --- |\n";
}

template <class Model>
void table(const char* name) {
    head<Model>(name);
    row<Model, ls::store_all>("store_all");
    row<Model, ls::selective_products>("selective_products");
    row<Model, ls::selective>("selective");
    row<Model, halves>("recompute_every<1>, then selective");
    row<Model, ls::recompute_root>("recompute_root");
    row<Model, ls::recompute_every<1>>("recompute_every<1>");
    row<Model, ls::offload<ls::selective>>("offload<selective>");
    row<Model, ls::offload<ls::recompute_every<1>>>("offload<recompute_every<1>>");
}

}  // namespace

int main(int count, char** words) {
    table<a>("A");
    table<b>("B");
    head<b_on_two_streams>("B on two streams");
    row<b_on_two_streams, ls::store_all>("store_all");
    row<b_on_two_streams, ls::selective>("selective");
    row<b_on_two_streams, ls::recompute_every<1>>("recompute_every<1>");
    row<b_on_two_streams, ls::reversible>("reversible");
    std::cout << "fit: " << ls::checkpoint_of<chosen>::name << " at " << chosen::batch.budget << " tokens, " << chosen::batch.micro_batches
              << " micro-batches, " << chosen::chosen.peak << " bytes\n";
    std::cout << "B on two streams, reversible, narrow by bucket\n"
              << "| tokens | token_chunk | head_group | GiB | bytes a token |\n"
              << "| --- | --- | --- | --- | --- |\n";
    long_row<1048576, 0, 0>();
    long_row<1048576, 32768, 0>();
    long_row<1048576, 32768, 8>();
    long_row<1048576, 32768, 4>();
    long_row<1048576, 32768, 2>();
    long_row<2097152, 32768, 4>();
    long_row<4194304, 32768, 2>();
    std::cout << ls::describe(expected);
    if (count < 2) return 0;
    const auto save = [&](const char* name, const std::string& picture) {
        std::ofstream file(std::string(words[1]) + "/" + name + ".svg", std::ios::binary);
        file << picture;
        file.close();
        return static_cast<bool>(file);
    };
    return save("store_all", ls::draw_step<b, device>(40 * ls::GiB)) &&
                   save("selective", ls::draw_step<under<b, ls::selective>, device>(40 * ls::GiB)) &&
                   save("offload", ls::draw_step<under<b, ls::offload<ls::selective>>, device>(40 * ls::GiB))
               ? 0
               : 1;
}
