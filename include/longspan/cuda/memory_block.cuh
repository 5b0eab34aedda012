// SPDX-License-Identifier: Apache-2.0
//
// Owners of what CUDA gives out: a block of device memory, a block of pinned host memory, a stream, an event, a recorded graph.
// Each is freed with its owner; none is shared. Allocations happen when an owner is made, never inside a step.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <span>
#include <utility>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// Memory of the current device. Throws device_error, with the bytes asked for, when there is none.
class device_block {
public:
    device_block() = default;
    device_block(const char* what, bytes size) : size_(size) {
        if (size > 0) check(cudaMalloc(&at_, static_cast<std::size_t>(size)), what, size);
    }
    device_block(device_block&& other) noexcept : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    device_block& operator=(device_block&& other) noexcept {
        std::swap(at_, other.at_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~device_block() { cudaFree(at_); }

    [[nodiscard]] std::span<std::byte> bytes_of() const { return {static_cast<std::byte*>(at_), static_cast<std::size_t>(size_)}; }

private:
    void* at_ = nullptr;
    bytes size_ = 0;
};

/// Host memory that the device copies from and to while the host goes on.
class pinned_block {
public:
    pinned_block() = default;
    pinned_block(const char* what, bytes size) : size_(size) {
        if (size > 0) check(cudaHostAlloc(&at_, static_cast<std::size_t>(size), cudaHostAllocDefault), what, size);
    }
    pinned_block(pinned_block&& other) noexcept : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    pinned_block& operator=(pinned_block&& other) noexcept {
        std::swap(at_, other.at_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~pinned_block() { cudaFreeHost(at_); }

    [[nodiscard]] std::span<std::byte> bytes_of() const { return {static_cast<std::byte*>(at_), static_cast<std::size_t>(size_)}; }

private:
    void* at_ = nullptr;
    bytes size_ = 0;
};

/// A stream that waits for no other, the default stream included.
class owned_stream {
public:
    owned_stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"); }
    owned_stream(const owned_stream&) = delete;
    ~owned_stream() { cudaStreamDestroy(stream_); }
    [[nodiscard]] stream_ref ref() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

/// A mark in a stream that a thread, or another stream, can wait for.
class owned_event {
public:
    owned_event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event"); }
    owned_event(owned_event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    owned_event& operator=(owned_event&&) = delete;
    ~owned_event() {
        if (event_ != nullptr) cudaEventDestroy(event_);
    }
    void record(stream_ref stream) const { check(cudaEventRecord(event_, stream), "an event"); }
    /// What is put on `stream` from now on waits for the mark as it was recorded last.
    void hold_up(stream_ref stream) const { check(cudaStreamWaitEvent(stream, event_, 0), "an event"); }
    /// Returns at once for an event that was never recorded.
    void wait() const { check(cudaEventSynchronize(event_), "waiting for the device"); }

private:
    cudaEvent_t event_ = nullptr;
};

/// Work that was captured from a stream, ready to be launched again.
class owned_graph {
public:
    owned_graph() = default;
    owned_graph(owned_graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
    owned_graph& operator=(owned_graph&& other) noexcept {
        std::swap(executable_, other.executable_);
        return *this;
    }
    ~owned_graph() {
        if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    }

    /// Records what `work` puts on the stream; nothing runs. An exception of `work` passes through and leaves nothing recorded.
    template <class Work>
    static owned_graph capture(stream_ref stream, Work&& work) {
        owned_graph made;
        cudaGraph_t graph = nullptr;
        check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step");
        try {
            work();
        } catch (...) {
            cudaStreamEndCapture(stream, &graph);
            if (graph != nullptr) cudaGraphDestroy(graph);
            (void)cudaGetLastError();
            throw;
        }
        check(cudaStreamEndCapture(stream, &graph), "recording a step");
        const cudaError_t code = cudaGraphInstantiate(&made.executable_, graph, 0);
        cudaGraphDestroy(graph);
        check(code, "recording a step");
        return made;
    }

    [[nodiscard]] bool recorded() const { return executable_ != nullptr; }
    void launch(stream_ref stream) const { check(cudaGraphLaunch(executable_, stream), "replaying a step"); }

private:
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace longspan::cuda
