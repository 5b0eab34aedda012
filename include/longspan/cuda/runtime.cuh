// SPDX-License-Identifier: Apache-2.0
//
// What a trainer holds of a GPU from step to step: its block of memory, a stream, cuBLASLt's choices, the recorded step, and the
// pinned memory through which requests and batches go and answers come back. The host waits for the device only where an answer
// is asked for, or when it is several batches ahead.
//
// Pinned memory: what the plan says that leaves the device, 4 batches and 80 KiB. Device memory: the plan's, and what the driver takes for
// context, graphs and libraries
// (`reserve`, checked before anything is allocated).
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <longspan/cuda/copies.cuh>
#include <longspan/cuda/device.hpp>
#include <longspan/cuda/gemm.cuh>
#include <longspan/cuda/memory_block.cuh>
#include <longspan/cuda/requirements.hpp>

namespace longspan::cuda {

/// The current device can run this build and has room for `needed` bytes beside the reserve; throws what expect_gpu says otherwise.
/// Allocates nothing but CUDA's own context.
void expect_device(bytes needed);

namespace detail {

template <class F>
__global__ void run_once(const __grid_constant__ F f) {
    f();
}

}  // namespace detail

/// Runs F's call operator in one thread of the device, where it can read and write device memory.
template <class F>
void once(stream_ref stream, const F& f) {
    static_assert(std::is_trivially_copyable_v<F>, "what runs on the device is copied to it byte by byte");
    detail::run_once<F><<<1, 1, 0, stream>>>(f);
    check_launch("once");
}

class device::runtime {
public:
    /// `size` bytes on the current device, room for batches of `batch` bytes on the way to it, and `pinned` bytes of pinned host memory for
    /// what leaves the device. Throws device_error when no GPU that this build can run on answers, out_of_memory when it has too
    /// little free memory (expect_gpu; nothing is allocated then) or the host has not that much to pin.
    explicit runtime(bytes size, bytes batch = 0, bytes pinned = 0);
    ~runtime();
    runtime(const runtime&) = delete;

    [[nodiscard]] std::span<std::byte> memory() const { return block_.bytes_of(); }
    /// Pinned host memory for what leaves the device, and the copies beside the stream: null where none was asked for.
    [[nodiscard]] std::span<std::byte> pinned() const { return pinned_.bytes_of(); }
    [[nodiscard]] const cuda::copies* copies() const { return copies_.get(); }
    [[nodiscard]] stream_ref stream() const { return stream_.ref(); }
    [[nodiscard]] cublas& blas() { return blas_; }
    /// Returns when the device has done all that was asked.
    void wait() const { check(cudaStreamSynchronize(stream()), "waiting for the device"); }

    /// Whether work is recorded and replayed (the default), or put on the stream anew each time: the same bits.
    void use_graphs(bool use) {
        forget();
        graphs_in_use_ = use;
    }
    void forget() { recordings_.clear(); }
    /// The first time does the work, so that libraries load what they need; the second records it; from then on it is replayed.
    template <class Work>
    void replay(index recording, Work&& work);
    /// How often work has been recorded so far: a step that is only replayed leaves it as it is.
    [[nodiscard]] index times_recorded() const { return times_recorded_; }
    template <class F>
    void once(const F& f) {
        cuda::once(stream(), f);
    }

    /// Which kernels cuBLASLt chose, on which device and in which version, as lines of text: a snapshot keeps them.
    [[nodiscard]] std::string choices() const;
    /// Takes them again, before the first step. Empty when they hold here, else a sentence: the run goes on with other bits.
    [[nodiscard]] std::string reuse(std::string_view choices);

    /// Waits until the batch before the one before … (4 back) has left its pinned memory, and starts to fill that.
    void next_batch();
    void batch_placed() { sections_[section_].gone.record(stream()); }
    template <class T>
    [[nodiscard]] const T* stage(std::span<const T> from, T* room) {
        if (!from.empty()) stage_bytes(from.data(), room, static_cast<bytes>(from.size_bytes()));
        return room;
    }
    template <class T>
    [[nodiscard]] T* stage_out(std::span<T> to, T* room) {
        return to.empty() ? nullptr : room;
    }
    template <class T>
    void collect(const T* room, std::span<T> to) {
        download(std::span<const T>(room, to.size()), to.data());
    }
    /// A small value, copied when the stream reaches it; the caller's may change at once.
    template <class T>
    void send(const T& from, T* to) {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= static_cast<std::size_t>(slot_size));
        send_bytes(&from, to, sizeof(T));
    }
    /// Wait for the device.
    template <class T>
    void upload(std::span<const T> from, T* to) {
        check(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyHostToDevice, stream()), "upload", static_cast<bytes>(from.size_bytes()));
        wait();
    }
    template <class T>
    void download(std::span<const T> from, T* to) {
        check(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyDeviceToHost, stream()), "download", static_cast<bytes>(from.size_bytes()));
        wait();
    }

    template <class T>
    [[nodiscard]] fetched<T> fetch(const T* from) {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= static_cast<std::size_t>(slot_size));
        return fetched<T>(*this, fetch_bytes(from, sizeof(T)));
    }

private:
    template <class T>
    friend class device::fetched;
    static constexpr index slots = 64;       ///< answers that may be under way
    static constexpr bytes slot_size = 1024;
    static constexpr index requests = 16;    ///< requests that may be under way
    static constexpr index batches = 4;      ///< batches that may be under way

    struct recording {
        bool warm = false;
        owned_graph graph;
    };
    struct section {
        owned_event gone;  ///< the stream has passed its copies
    };

    void stage_bytes(const void* from, void* to, bytes size);
    void send_bytes(const void* from, void* to, std::size_t size);
    [[nodiscard]] index fetch_bytes(const void* from, std::size_t size);
    [[nodiscard]] const std::byte* arrived(index slot);
    void give_back(index slot) { free_slots_[static_cast<std::size_t>(free_count_++)] = slot; }

    std::nullptr_t checked_;  // before anything is allocated
    device_block block_;
    pinned_block pinned_;
    owned_stream stream_;
    std::unique_ptr<const cuda::copies> copies_;
    cublas blas_;
    std::vector<recording> recordings_;
    bool graphs_in_use_ = true;
    index times_recorded_ = 0;

    bytes batch_size_;
    pinned_block batches_, requests_, answers_;
    std::array<section, static_cast<std::size_t>(batches)> sections_;
    std::size_t section_ = 0;
    bytes section_used_ = 0;
    std::array<owned_event, static_cast<std::size_t>(requests)> request_gone_;
    index request_ = 0;
    std::array<owned_event, static_cast<std::size_t>(slots)> answer_here_;
    std::array<index, static_cast<std::size_t>(slots)> free_slots_;
    index free_count_ = 0;
};

}  // namespace longspan::cuda

#include <longspan/cuda/detail/runtime.cuh>
