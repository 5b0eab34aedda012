// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C that ends a run instead of killing it: the first SIGINT or SIGTERM sets a flag, which the loop asks after each step, so
// that it can save and leave; the second one does what it would have done without us. That is safe at any moment, for a
// snapshot is there in full or not at all (train/atomic_file.hpp).
//
//     ls::interrupt interrupt;
//     while (!interrupt.requested()) trainer.step(...);
//
// POSIX; handlers belong to the process, so there is one `interrupt` at a time.
#pragma once

#include <atomic>
#include <csignal>
#include <utility>

#include <longspan/core/error.hpp>

namespace longspan {

/// Catches SIGINT and SIGTERM for as long as it lives; the handlers from before come back with its end. A signal that was
/// ignored (nohup, a background job of a shell) stays ignored. Throws bad_argument where there is one already.
class interrupt {
public:
    interrupt() {
        expects(!std::exchange(alive_, true), [] { return "an interrupt exists already; handlers of signals belong to the whole process"; });
        signal_ = 0;
        struct sigaction ours {};
        ours.sa_handler = &interrupt::handle;
        ours.sa_flags = SA_RESTART;  // no read or write of the run is cut short
        sigemptyset(&ours.sa_mask);
        for (int i = 0; i < 2; ++i) {
            ::sigaction(caught[i], nullptr, &before_[i]);
            if (before_[i].sa_handler != SIG_IGN) ::sigaction(caught[i], &ours, nullptr);
        }
    }
    ~interrupt() {
        for (int i = 0; i < 2; ++i) ::sigaction(caught[i], &before_[i], nullptr);
        alive_ = false;
    }
    interrupt(const interrupt&) = delete;
    interrupt& operator=(const interrupt&) = delete;

    /// True from the first signal on, until the next `interrupt` is made. From any thread.
    [[nodiscard]] static bool requested() noexcept { return signal_ != 0; }
    /// SIGINT, SIGTERM, or 0.
    [[nodiscard]] static int signal() noexcept { return signal_; }

private:
    static constexpr int caught[2] = {SIGINT, SIGTERM};

    /// Only what a handler may do: a lock-free store, and sigaction. What is ignored is not ours to end.
    static void handle(int number) {
        signal_ = number;
        struct sigaction standard {}, now {};
        standard.sa_handler = SIG_DFL;
        for (const int each : caught) {
            ::sigaction(each, nullptr, &now);
            if (now.sa_handler == &interrupt::handle) ::sigaction(each, &standard, nullptr);
        }
    }

    static_assert(std::atomic<int>::is_always_lock_free, "a handler of signals may only touch atomics without locks");
    inline static std::atomic<int> signal_ = 0;
    inline static bool alive_ = false;
    struct sigaction before_[2];
};

}  // namespace longspan
