// SPDX-License-Identifier: Apache-2.0
//
// What a trainer holds of its backend from step to step. On the host that is one block of memory: work is done when it is asked
// for, values are where they are sent, and nothing is recorded to be replayed.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <longspan/core/types.hpp>
#include <longspan/memory/block.hpp>

namespace longspan::host {

class runtime {
public:
    /// Allocates the block that the plan asks for, and, for what leaves it, another. Throws out_of_memory when the system has none.
    explicit runtime(bytes size, bytes /*batch*/ = 0, bytes pinned = 0) : block_(size), pinned_(pinned) {}

    /// The block, aligned to a page.
    [[nodiscard]] std::span<std::byte> memory() const { return block_.bytes_of(); }

    /// Where tensors go that leave the block: on the host, memory like the other.
    [[nodiscard]] std::span<std::byte> pinned() const { return pinned_.bytes_of(); }

    /// Does the work. A backend that can record it does so the first time, under this number, and replays it from then on.
    template <class Work>
    void replay(index /*recording*/, Work&& work) {
        work();
    }
    /// Calls f once, where the block can be read and written.
    template <class F>
    void once(const F& f) {
        f();
    }

    /// Around the staging of one batch's arrays.
    void next_batch() {}
    void batch_placed() {}
    /// An array of the caller's where ops can read it: itself; `room` is not used.
    template <class T>
    [[nodiscard]] const T* stage(std::span<const T> from, T* /*room*/) {
        return from.data();
    }
    /// Where ops write an array of the caller's: the array itself; `room` is not used. `collect` brings it home.
    template <class T>
    [[nodiscard]] T* stage_out(std::span<T> to, T* /*room*/) {
        return to.empty() ? nullptr : to.data();
    }
    template <class T>
    void collect(const T* /*room*/, std::span<T> /*to*/) {}
    /// Copies to the block and from it. What is sent is there before whatever is asked for next; the rest is done on return.
    template <class T>
    void upload(std::span<const T> from, T* to) {
        if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
    }
    template <class T>
    void send(const T& from, T* to) {
        *to = from;
    }
    template <class T>
    void download(std::span<const T> from, T* to) {
        if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
    }

    /// What a library chose for this machine, as text, and taking it again: the host has nothing to choose.
    [[nodiscard]] std::string choices() const { return {}; }
    [[nodiscard]] std::string reuse(std::string_view /*choices*/) { return {}; }

    /// A value on its way back from the block.
    template <class T>
    class fetched {
    public:
        fetched() = default;
        explicit fetched(const T& value) : value_(value) {}
        /// Waits until it is there.
        [[nodiscard]] const T& get() const { return value_; }

    private:
        T value_{};
    };
    template <class T>
    [[nodiscard]] fetched<T> fetch(const T* from) {
        return fetched<T>(*from);
    }

private:
    memory_block block_, pinned_;
};

}  // namespace longspan::host
