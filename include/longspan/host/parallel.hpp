// SPDX-License-Identifier: Apache-2.0
//
// The one place where host threads start. An op cuts its work into pieces of FIXED size (a constant of the op, never a
// function of the thread count) and hands their count to `parallel_for`; each piece writes memory of its own, so the bits do
// not depend on how many threads there are nor on which thread took which piece. Without OpenMP the same code runs serially.
#pragma once

#include <concepts>
#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <longspan/core/types.hpp>

namespace longspan::host {

/// Threads that the next `parallel_for` may use here: 1 without OpenMP and inside a running `parallel_for`.
[[nodiscard]] inline int threads() noexcept {
#if defined(_OPENMP)
    return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
    return 1;
#endif
}

namespace detail {

#if defined(_OPENMP)
/// Keeps the exception of the lowest failing piece: the one a serial loop would have met first.
class first_failure {
public:
    [[nodiscard]] bool before(index i) const noexcept {
        index at = 0;
#pragma omp atomic read
        at = at_;
        return at < i;
    }
    void keep(index i) noexcept {
#pragma omp critical(longspan_first_failure)
        if (i < at_) {
            what_ = std::current_exception();
#pragma omp atomic write
            at_ = i;
        }
    }
    void rethrow() const {
        if (what_) std::rethrow_exception(what_);
    }

private:
    index at_ = INT64_MAX;
    std::exception_ptr what_;
};
#endif

}  // namespace detail

/// Calls f(i) once for every i in [0, count), on as many threads as there are. The calls must be independent of one another.
/// If some throw, the exception of the lowest i is rethrown once all threads are done (pieces above it may be skipped).
/// A nested call runs serially on its caller's thread. Deterministic; blocks until all is done.
template <class F>
    requires std::invocable<F&, index>
void parallel_for(index count, F&& f) {
#if defined(_OPENMP)
    if (count > 1 && threads() > 1) {
        detail::first_failure failure;
        // One piece at a time: pieces are coarse by construction, and causal attention's differ in cost by orders of magnitude.
#pragma omp parallel for schedule(dynamic, 1)
        for (index i = 0; i < count; ++i) {
            if (failure.before(i)) continue;
            try {
                f(i);
            } catch (...) {
                failure.keep(i);
            }
        }
        failure.rethrow();
        return;
    }
#endif
    for (index i = 0; i < count; ++i) f(i);
}

}  // namespace longspan::host
