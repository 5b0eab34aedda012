// SPDX-License-Identifier: Apache-2.0
//
// A trainer on an NVIDIA GPU, as every file of a program but one sees it: declarations alone, for any C++ compiler, without the
// CUDA toolkit. The kernels are made where LONGSPAN_INSTANTIATE stands, in one .cu which includes cuda/trainer.cuh.
//
//     // config.hpp, included everywhere                       // train.cu, alone
//     #include <longspan/cuda/trainer.hpp>                     #include "config.hpp"
//     struct config { … };                                     #include <longspan/cuda/trainer.cuh>
//     LONGSPAN_EXTERN(config);                                 LONGSPAN_INSTANTIATE(config);
//
// A run of several phases takes an alias and a line per phase:
//
//     using run = ls::phases<brief, lengthy>;
//     LONGSPAN_EXTERN_RUN(run); LONGSPAN_EXTERN_PHASE(run, brief); LONGSPAN_EXTERN_PHASE(run, lengthy);
//
// Another backend than ls::cuda::device stands last, the same in both files: LONGSPAN_EXTERN(config, ls::cuda::portable_device).
#pragma once

#include <longspan/cuda/device.hpp>
#include <longspan/train/trainer.hpp>

namespace longspan::cuda::detail {

template <class... Named>
inline constexpr bool is_one = sizeof...(Named) == 1;
template <class... Named>
struct backend_of_macro {
    static_assert(is_one<Named...>, "LONGSPAN_EXTERN, LONGSPAN_INSTANTIATE: one backend behind the configuration, or none for ls::cuda::device");
    using type = device;
};
template <>
struct backend_of_macro<> {
    using type = device;
};
template <class Named>
struct backend_of_macro<Named> {
    using type = Named;
};
template <class... Named>
using named_or_device = typename backend_of_macro<Named...>::type;

}  // namespace longspan::cuda::detail

// The backend comes as the rest of the arguments: its own may have commas.
#define LONGSPAN_TRAINER_RUN(LINKAGE, RUN, ...) LINKAGE template class longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>
#define LONGSPAN_TRAINER_PHASE(LINKAGE, RUN, PHASE, ...)                                                                                        \
    LINKAGE template longspan::step_report longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::step<PHASE>(           \
        const longspan::token_batch&);                                                                                                          \
    LINKAGE template longspan::step_report longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::step<PHASE>(           \
        std::span<const longspan::token_batch>);                                                                                                \
    LINKAGE template longspan::step_report longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::step<PHASE>(           \
        std::span<const longspan::token_batch>, double);                                                                                        \
    LINKAGE template longspan::pending_step<longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>>                       \
    longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::submit<PHASE>(std::span<const longspan::token_batch>);        \
    LINKAGE template longspan::pending_step<longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>>                       \
    longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::submit<PHASE>(std::span<const longspan::token_batch>, double); \
    LINKAGE template double longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::accumulate_gradients<PHASE>(          \
        const longspan::token_batch&, std::span<double>);                                                                                       \
    LINKAGE template double longspan::trainer<RUN, longspan::cuda::detail::named_or_device<__VA_ARGS__>>::evaluate<PHASE>(                      \
        const longspan::token_batch&, std::span<double>)

/// "Made elsewhere": in a header that every file includes. Behind the configuration a backend may stand; without one it is the device.
#define LONGSPAN_EXTERN_RUN(RUN, ...) LONGSPAN_TRAINER_RUN(extern, RUN __VA_OPT__(, ) __VA_ARGS__)
#define LONGSPAN_EXTERN_PHASE(RUN, PHASE, ...) LONGSPAN_TRAINER_PHASE(extern, RUN, PHASE __VA_OPT__(, ) __VA_ARGS__)
#define LONGSPAN_EXTERN(CONFIG, ...)                          \
    LONGSPAN_EXTERN_RUN(CONFIG __VA_OPT__(, ) __VA_ARGS__);   \
    LONGSPAN_EXTERN_PHASE(CONFIG, CONFIG __VA_OPT__(, ) __VA_ARGS__)

/// "Made here": in one .cu.
#define LONGSPAN_INSTANTIATE_RUN(RUN, ...) LONGSPAN_TRAINER_RUN(, RUN __VA_OPT__(, ) __VA_ARGS__)
#define LONGSPAN_INSTANTIATE_PHASE(RUN, PHASE, ...) LONGSPAN_TRAINER_PHASE(, RUN, PHASE __VA_OPT__(, ) __VA_ARGS__)
#define LONGSPAN_INSTANTIATE(CONFIG, ...)                        \
    LONGSPAN_INSTANTIATE_RUN(CONFIG __VA_OPT__(, ) __VA_ARGS__); \
    LONGSPAN_INSTANTIATE_PHASE(CONFIG, CONFIG __VA_OPT__(, ) __VA_ARGS__)
