// SPDX-License-Identifier: Apache-2.0
//
// A block of the host's memory with an owner, aligned to a page.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

class memory_block {
public:
    memory_block() = default;
    /// Allocates. Throws out_of_memory when the system has not that much.
    explicit memory_block(bytes size) : size_(size) {
        void* const at = ::operator new(static_cast<std::size_t>(size), page, std::nothrow);
        expects<out_of_memory>(at != nullptr, [&] {
            return "the plan needs one block of " + std::to_string(size) + " bytes, and the system refused it";
        });
        at_.reset(static_cast<std::byte*>(at));
    }

    [[nodiscard]] std::span<std::byte> bytes_of() const { return {at_.get(), static_cast<std::size_t>(size_)}; }

private:
    static constexpr std::align_val_t page{4096};
    struct deallocate {
        void operator()(std::byte* at) const noexcept { ::operator delete(at, page); }
    };
    std::unique_ptr<std::byte, deallocate> at_;
    bytes size_ = 0;
};

}  // namespace longspan
