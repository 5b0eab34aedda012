// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include <longspan/cuda/device.hpp>
#include <longspan/model/draw.hpp>

#include "configs.hpp"

namespace models {
namespace {

inline constexpr auto mixture = recompute_every<2>.for_blocks<2>().then(selective);

/// The highest moment is the plan's peak, to the byte: worked out by running the policy, and as a sum.
template <class Config, class Backend>
std::vector<step_moment> moments_of() {
    const auto moments = step_moments<Config, Backend>();
    bytes most = 0;
    for (const step_moment& m : moments) most = std::max(most, m.total());
    CHECK(most == plan<Config, Backend>.peak());
    bytes pinned = 0;
    for (const step_moment& m : moments) pinned = std::max(pinned, m.pinned);
    CHECK(pinned == plan<Config, Backend>.pinned);
    return moments;
}

index count(const std::string& text, const std::string& what) {
    index found = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++found;
    return found;
}

}  // namespace

TEST_CASE("draw: the highest moment of a step is the plan's peak") {
    using work = step_moment::work;
    const auto all = moments_of<config<llama, local, store_all, fp32>, host::cpu>();
    CHECK(all.size() == 3 + 1 + 3 + 1);  // forward, turn, backward, update
    CHECK(all[3].doing == work::turn);
    CHECK(all[4].doing == work::backward);
    CHECK(all[4].block == 2);
    CHECK(all[7].doing == work::update);
    CHECK(all[0].held[static_cast<std::size_t>(memory_use::kept)] < all[2].held[static_cast<std::size_t>(memory_use::kept)]);
    const auto kept = moments_of<config<llama, local, selective, mixed<bf16>>, cuda::device>();
    CHECK(kept.size() == all.size() + 2);  // two blocks made again
    CHECK(kept[5].doing == work::again);
    CHECK(kept[5].block == 1);
    CHECK(kept[6].doing == work::backward);
    // Each moment has its own scratch: all of a block's the first time, and of one that is made again what is not kept.
    using sizes = decoder_memory<model_of_config<config<llama, local, selective, mixed<bf16>>>, pattern_of<local>, cuda::device>;
    const auto scratch = [&](std::size_t i) { return kept[i].held[static_cast<std::size_t>(memory_use::scratch)]; };
    const stack_bytes s = sizes::stack(budget);
    CHECK(scratch(0) == s.forward_scratch.peak(cuda::device::alignment));
    CHECK(scratch(3) == s.turn.peak(cuda::device::alignment));
    CHECK(scratch(4) == s.backward_scratch.peak(cuda::device::alignment));
    CHECK(scratch(5) == s.forward_scratch.only([](cost made) { return made < cost::attention; }).peak(cuda::device::alignment));
    CHECK(scratch(5) < scratch(0));
    (void)moments_of<config<rich, local, recompute_every<1>, mixed<fp16>>, host::cpu>();
    (void)moments_of<config<llama, local, mixture, fp64>, host::cpu>();
    using leaving = config<llama, local, offload<selective>, fp64>;
    const auto away = moments_of<leaving, host::cpu>();
    CHECK(plan<leaving, host::cpu>.pinned > 0);
    CHECK(away.front().pinned < plan<leaving, host::cpu>.pinned);  // the stream leaves beside the first block, the rest behind it
    CHECK(away[1].pinned == plan<leaving, host::cpu>.pinned);
    CHECK(away.back().pinned == 0);
    CHECK(draw_step<leaving, host::cpu>().find(" bytes, and " + detail::grouped_bytes(plan<leaving, host::cpu>.pinned) + " of pinned host memory") !=
          std::string::npos);
}

TEST_CASE("draw: a document with a bar for every moment, the peak and the room") {
    using c = config<llama, local, selective, fp32>;
    const std::string picture = draw_step<c, host::cpu>(8 * MiB);
    CHECK(picture.find("<svg xmlns") == 0);
    CHECK(picture.substr(picture.size() - 7) == "</svg>\n");
    CHECK(count(picture, "<title>") == 10);
    CHECK(count(picture, "<g>") == count(picture, "</g>"));
    CHECK(count(picture, "again of block 1: ") == 1);
    CHECK(picture.find("selective, 131 tokens: peak " + detail::grouped_bytes(plan<c, host::cpu>.peak()) + " bytes") != std::string::npos);
    CHECK(picture.find("room 8 MiB") != std::string::npos);
    CHECK(draw_step<c, host::cpu>().find("room") == std::string::npos);
}

}  // namespace models
