// SPDX-License-Identifier: Apache-2.0
//
// A configuration is a type with five constants, one per axis:
//
//     struct config {
//         static constexpr auto shape      = ls::decoder_shape{.layers = 4, .width = 256, …, .context = 2048};
//         static constexpr auto attention  = ls::causal & (ls::window<512> | ls::first<16>);
//         static constexpr auto checkpoint = ls::store_all;
//         static constexpr auto precision  = ls::fp32;
//         static constexpr auto batch      = ls::packed<2048>;
//     };
//
// Optional: `schedule` (learning rate, see optim/schedule.hpp), `optimizer` (see optim/adamw.hpp) and `update`, how the optimizer's
// state is stored (precision/update_storage.hpp). A run over several phases (length warm-up) is `phases<short_config, long_config>`:
// one parameter store, one step count.
#pragma once

#include <type_traits>

#include <longspan/batch/strategy.hpp>
#include <longspan/checkpoint/policy.hpp>
#include <longspan/layer/context.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/stack.hpp>
#include <longspan/precision/policy.hpp>
#include <longspan/precision/update_storage.hpp>

namespace longspan {

/// Has the five constants of a configuration, whatever they are.
template <class C>
concept configuration = requires {
    C::shape;
    C::attention;
    C::checkpoint;
    C::precision;
    C::batch;
};

/// A run over several configurations of one model, in order.
template <class... Configs>
struct phases {};

namespace detail {

// Context matters to a layer only where it sizes a table, so phases of different context share every instantiation.
constexpr decoder_shape shape_of_layers(decoder_shape shape) {
    if (shape.positions != position_kind::learned) shape.context = 1;
    return shape;
}

// Two streams are in fixed point.
template <class Precision, index Streams>
using precision_of_layers = std::conditional_t<Streams == 2, fixed_residual<Precision>, Precision>;

}  // namespace detail

/// The model of a configuration: what its layers are templates of.
template <configuration Config>
using model_of_config = model_of<detail::shape_of_layers(Config::shape),
                                 detail::precision_of_layers<std::remove_cvref_t<decltype(Config::precision)>, Config::shape.streams()>>;

template <configuration Config>
using checkpoint_of = std::remove_cvref_t<decltype(Config::checkpoint)>;
template <configuration Config>
using batching_of = std::remove_cvref_t<decltype(Config::batch)>;
template <configuration Config>
using attention_of = std::remove_cvref_t<decltype(Config::attention)>;

namespace detail {

template <class Config>
constexpr auto update_member() {
    if constexpr (requires { Config::update; }) return Config::update;
    else return usual_update;
}

}  // namespace detail

/// How the optimizer's state of a configuration is stored.
template <configuration Config>
using update_of = std::remove_cvref_t<decltype(detail::update_member<Config>())>;

/// Refuses a configuration whose axes are not what they should be, one sentence a mistake, before anything is instantiated.
template <class Config>
consteval bool check_config() {
    static_assert(requires { Config::shape; }, "a configuration needs `static constexpr auto shape = ls::decoder_shape{…}`");
    static_assert(requires { Config::attention; }, "a configuration needs `static constexpr auto attention`, a pattern such as ls::causal");
    static_assert(requires { Config::checkpoint; }, "a configuration needs `static constexpr auto checkpoint`: ls::store_all, ls::selective or ls::recompute_every<k>");
    static_assert(requires { Config::precision; }, "a configuration needs `static constexpr auto precision`: ls::fp32, ls::fp64, ls::tf32 or ls::mixed<ls::bf16>");
    static_assert(requires { Config::batch; }, "a configuration needs `static constexpr auto batch`: ls::packed<tokens>, ls::bucketed<tokens> or ls::padded<tokens>");
    if constexpr (configuration<Config>) {
        // As constants: of a concept that fails inside a static_assert a compiler explains every part, below our sentence.
        constexpr bool shaped = std::is_same_v<std::remove_cvref_t<decltype(Config::shape)>, decoder_shape>;
        constexpr bool attends = pattern_stack<attention_of<Config>>, checkpoints = checkpoint_policy<checkpoint_of<Config>>;
        constexpr bool precise = precision_policy<std::remove_cvref_t<decltype(Config::precision)>>;
        constexpr bool batched = batching<batching_of<Config>>;
        static_assert(shaped, "config.shape is an ls::decoder_shape");
        static_assert(attends, "config.attention is a pattern (ls::causal & ls::window<512>) or an ls::stack of patterns");
        static_assert(checkpoints, "config.checkpoint is a checkpointing policy: ls::store_all, ls::selective, ls::recompute_every<k>, ls::reversible or "
                                   "ls::offload<policy>");
        static_assert(precise,
                      "config.precision is a precision policy: ls::fp32, ls::fp64, ls::tf32, ls::mixed<ls::bf16> or ls::mixed<ls::fp16>");
        static_assert(batched, "config.batch is a batching strategy: ls::packed<tokens>, ls::bucketed<tokens> or ls::padded<tokens>");
        constexpr bool updates = is_update_storage<update_of<Config>>;
        static_assert(updates, "config.update says how the optimizer's state is stored: ls::moments<float>, ls::moments<ls::bf16> or "
                               "ls::moments<ls::eight_bit>, with .without_masters(), and .bf16_gradients() or .by_bucket(), as you like");
        if constexpr (shaped && attends && checkpoints && precise && batched && updates) {
            static_assert(Config::batch.budget >= Config::shape.context,
                          "config.batch: the token budget is smaller than config.shape.context, so the longest piece would not fit");
            if constexpr (requires { checkpoint_of<Config>::covers(Config::shape.layers); }) {
                static_assert(checkpoint_of<Config>::covers(Config::shape.layers),
                              "config.checkpoint: its for_blocks<n>() name more blocks than config.shape.layers has, or leave some to none; "
                              "the last policy needs no number");
            }
            constexpr bool at_once = !update_of<Config>::in_buckets || Config::batch.micro_batches == 1;
            static_assert(at_once, "config.update: by_bucket() uses gradients before another micro-batch could add to them; config.batch has "
                                   "accumulate<n>(), so take one micro-batch a step, or keep gradients whole");
            if constexpr (requires { checkpoint_of<Config>::needs_two_streams; }) {
                constexpr bool paired = Config::shape.streams() == 2;
                static_assert(paired,
                              "config.checkpoint = ls::reversible makes a block's input of its output, which takes a model of two streams: "
                              "config.shape.residual = ls::residual_kind::two_streams");
            }
            return check_shape<Config::shape>() && check_update<update_of<Config>, std::remove_cvref_t<decltype(Config::precision)>>();
        }
    }
    return true;
}

}  // namespace longspan
