// SPDX-License-Identifier: Apache-2.0
//
// Every byte of a training step, as a constant expression:
//
//     static_assert(ls::plan<config, ls::host::cpu>.peak() <= 2 * ls::GiB);
//
// The plan names what the step will take from its arena, and nothing else is allocated while a step runs. It is computed from
// values by the policy and the layers (`step_layout`), and a test counts the real step's acquires and releases against it, to
// the byte. Evaluation fits in a step's bytes.
#pragma once

#include <longspan/checkpoint/policy.hpp>
#include <longspan/memory/layout.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/decoder.hpp>
#include <longspan/model/hiding.hpp>
#include <longspan/model/pass_work.hpp>
#include <longspan/optim/step_state.hpp>

namespace longspan {

/// What a global norm costs an update by bucket, which has none, or has it by a second pass: either of the two. Zeros where gradients are
/// kept anyway.
struct norm_costs {
    bytes gradients = 0, bf16_gradients = 0;  ///< more than now, to keep them whole: in the format of their sums, or in bf16
    double second_pass = 0;                   ///< operations a token
};

/// A plan: the tree of regions and the alignment they are rounded up to.
template <index Nodes>
struct memory_plan {
    fixed_layout<Nodes> tree;
    bytes alignment = 0;
    index tokens = 0;     ///< of a micro-batch
    bytes parameters = 0; ///< of the peak: what stays from step to step
    bytes pinned = 0;     ///< beside the arena: of pinned host memory, for what leaves the device
    norm_costs norm{};    ///< of an update by bucket

    /// Bytes of the arena at the worst moment of a step.
    [[nodiscard]] constexpr bytes peak() const { return tree.peak(alignment); }
    /// Bytes beyond the parameters, per token of the budget.
    [[nodiscard]] constexpr double bytes_per_token() const {
        return static_cast<double>(peak() - parameters) / static_cast<double>(tokens);
    }
};

/// Where a configuration's parameters lie, and in which formats.
template <configuration Config>
using parameters_of_config = parameter_layout<model_of_config<Config>, update_of<Config>>;

/// What stays from step to step: the parameters, and what a step is asked and answers.
template <configuration Config>
[[nodiscard]] constexpr layout standing_memory() {
    return together("", region("state of the step", sizeof(step_state)), region("request of the step", sizeof(step_request)),
                    parameters_of_config<Config>::memory());
}

/// How a policy places a stack: its `plan`.
using policy_plan = layout (*)(const stack_bytes&);
/// What leaves the device at any budget: `pinned_layout` of a policy.
using pinned_plan = layout (*)(index tokens);

/// What one micro-batch takes beside weights and gradients, at any budget: the batch, forward, loss and backward under a policy, by
/// default Config's.
template <configuration Config, class Backend>
[[nodiscard]] constexpr layout pass_layout(index tokens, index max_pieces, policy_plan policy = &checkpoint_of<Config>::plan) {
    using decoder = decoder_memory<model_of_config<Config>, attention_of<Config>, Backend>;
    return together("", decoder::tables(tokens, max_pieces), decoder::gradient_stream(tokens), policy(decoder::stack(tokens)));
}

/// The layout of one training step of Config's model at any budget, under any policy: values in, values out.
template <configuration Config, class Backend>
[[nodiscard]] constexpr layout step_layout(index tokens, index max_pieces, policy_plan policy = &checkpoint_of<Config>::plan) {
    return together("training step", standing_memory<Config>(),
                    either("", pass_layout<Config, Backend>(tokens, max_pieces, policy),
                           region("workspace of the update", Backend::update_workspace(parameters_of_config<Config>::size))));
}

/// What leaves the device for pinned host memory, while one micro-batch runs under a policy, by default Config's; nothing under most.
template <configuration Config, class Backend, class Policy = checkpoint_of<Config>>
[[nodiscard]] constexpr layout pinned_layout([[maybe_unused]] index tokens) {
    using decoder = decoder_memory<model_of_config<Config>, attention_of<Config>, Backend>;
    if constexpr (offloads<Policy>) return Policy::pinned(decoder::stack(tokens));
    else return together("pinned host memory");
}

namespace detail {

template <configuration Config>
constexpr norm_costs norm_costs_of() {
    norm_costs costs;
    if constexpr (update_of<Config>::in_buckets) {
        using parameters = parameters_of_config<Config>;
        constexpr bytes element = bytes_of<typename parameters::precision, role::parameter_gradient>;
        costs.gradients = (parameters::size - parameters::gradient_size) * element;
        costs.bf16_gradients = parameters::size * bytes{sizeof(bf16)};
        costs.second_pass = work_of_pass<Config>(pairs_of_batch<Config>()).all().operations() / static_cast<double>(Config::batch.budget);
    }
    return costs;
}

template <configuration Config, class Backend>
constexpr auto make_plan() {
    constexpr auto make = [] { return step_layout<Config, Backend>(Config::batch.budget, Config::batch.max_pieces); };
    constexpr auto tree = freeze<make>();
    constexpr bytes store = standing_memory<Config>().peak(Backend::alignment);
    static_assert(check_hiding<Config, Backend>());
    constexpr bytes pinned = pinned_layout<Config, Backend>(Config::batch.budget).peak(Backend::alignment);
    return memory_plan<sizeof(tree.nodes) / sizeof(layout_node)>{tree, Backend::alignment, Config::batch.budget, store, pinned,
                                                                 norm_costs_of<Config>()};
}

}  // namespace detail

/// The plan of one step of Config on Backend.
template <class Config, class Backend>
    requires(check_config<Config>())
inline constexpr auto plan = detail::make_plan<Config, Backend>();

/// Parameters of Config's model.
template <configuration Config>
inline constexpr index parameter_count = parameters_of_config<Config>::count;

/// Forward and backward passes that a step makes of each micro-batch.
template <configuration Config>
inline constexpr index passes_of_step = update_of<Config>::twice ? 2 : 1;

/// Floating-point operations of the dense products of one training step, per token: forward, and twice that backward, in every pass. What
/// a policy recomputes and attention's own products (which depend on the documents) are not counted.
template <configuration Config>
inline constexpr double dense_flops_per_token = [] {
    const pass_work pass = work_of_pass<Config>(0);
    return static_cast<double>(passes_of_step<Config>) * pass.useful().products / static_cast<double>(Config::batch.budget);
}();

}  // namespace longspan
