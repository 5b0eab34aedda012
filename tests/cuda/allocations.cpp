// SPDX-License-Identifier: Apache-2.0
//
// Counts allocations. A file of its own, since nvcc takes no replaced operator new.
#include "allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> count{0};

}  // namespace

void* operator new(std::size_t size) {
    ++count;
    if (void* at = std::malloc(size > 0 ? size : 1)) return at;
    throw std::bad_alloc();
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }

long cuda_test::allocations() { return count; }
