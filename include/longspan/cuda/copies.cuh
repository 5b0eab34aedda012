// SPDX-License-Identifier: Apache-2.0
//
// Copies between device memory and pinned host memory beside the work of a stream: the ops' leave, fetch and wait
// (memory/transfer.hpp). Two streams of its own, one a direction, since a GPU has a copy engine for each; events order them with the
// work, so that all of it is recorded into the graph of a step that the work's stream is captured for. Nothing waits on the host.
//
// Every leave and fetch must be waited for on the work's stream, before a capture ends.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/memory_block.cuh>
#include <longspan/memory/transfer.hpp>

namespace longspan::cuda {

class copies {
public:
    copies() = default;
    copies(const copies&) = delete;
    /// Waits: what is under way reads and writes memory that its owner gives back next.
    ~copies() {
        cudaStreamSynchronize(to_host_.ref());
        cudaStreamSynchronize(from_host_.ref());
    }

    /// Behind all that was asked of `work`, copies the pieces to the host.
    template <class Pieces>
    void leave(stream_ref work, index number, Pieces&& pieces) const {
        beside(work, to_host_.ref(), number, [&](stream_ref lane) {
            pieces([&](std::byte* here, std::byte* away, bytes size) {
                check(cudaMemcpyAsync(away, here, static_cast<std::size_t>(size), cudaMemcpyDeviceToHost, lane), "offloading", size);
            });
        });
    }
    /// Likewise from the host.
    template <class Pieces>
    void fetch(stream_ref work, index number, Pieces&& pieces) const {
        beside(work, from_host_.ref(), number, [&](stream_ref lane) {
            pieces([&](std::byte* here, std::byte* away, bytes size) {
                check(cudaMemcpyAsync(here, away, static_cast<std::size_t>(size), cudaMemcpyHostToDevice, lane), "fetching back", size);
            });
        });
    }
    /// What is asked of `work` from now on comes behind the copies of that number so far.
    void wait(stream_ref work, index number) const { mark(number).hold_up(work); }

private:
    template <class Copy>
    void beside(stream_ref work, stream_ref lane, index number, Copy&& copy) const {
        asked_.record(work);
        asked_.hold_up(lane);
        copy(lane);
        mark(number).record(lane);
    }
    [[nodiscard]] const owned_event& mark(index number) const { return done_[static_cast<std::size_t>(number)]; }

    owned_stream to_host_, from_host_;
    owned_event asked_;  // how far the work was asked: read at once, so that one is enough
    std::array<owned_event, static_cast<std::size_t>(most_transfers)> done_;
};

}  // namespace longspan::cuda
