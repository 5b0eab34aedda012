// SPDX-License-Identifier: Apache-2.0
//
// The one allocation of a run. Regions are taken from it and given back in the opposite order, as scopes do, so that what is
// held is one block without holes: the high-water mark is the sum of the live regions at the worst moment, each rounded up to
// the arena's alignment. The plan predicts that mark to the byte; tests compare the two.
//
// Cost of acquire and release: a few integer operations. Neither allocates nor touches the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/memory/block.hpp>

namespace longspan {

/// The alignment of every region on the host: one cache line, one AVX-512 register.
inline constexpr bytes host_alignment = 64;

/// Sees every acquire and release; for tests which poison memory and look for bytes that nobody wrote.
struct arena_observer {
    void* state = nullptr;
    void (*acquired)(void* state, const char* name, std::span<std::byte> region) = nullptr;
    void (*released)(void* state, const char* name, std::span<std::byte> region) = nullptr;
};

/// A stack of regions in one block of memory which it owns or was lent. Not for use by several threads at once.
class arena {
public:
    /// Allocates `capacity` bytes, aligned to a page. Throws out_of_memory when the system has none.
    explicit arena(bytes capacity) : owned_(capacity), base_(owned_.bytes_of().data()), capacity_(capacity) {}

    /// Uses memory that the caller keeps alive, on the host or on a device: regions start at multiples of `alignment`, as it does.
    /// Throws bad_argument where it does not.
    explicit arena(std::span<std::byte> lent, bytes alignment = host_alignment)
        : base_(lent.data()), capacity_(static_cast<bytes>(lent.size())), alignment_(alignment) {
        expects(reinterpret_cast<std::uintptr_t>(base_) % static_cast<std::uintptr_t>(alignment) == 0, [&] {
            return "an arena's memory starts at a multiple of " + std::to_string(alignment) + " bytes; got address " +
                   std::to_string(reinterpret_cast<std::uintptr_t>(base_));
        });
    }

    arena(arena&&) = delete;  // regions point at it

    /// Takes `size` bytes (rounded up to the alignment); throws out_of_memory with the name and the bytes when they do not fit.
    [[nodiscard]] std::byte* acquire(const char* name, bytes size) {
        const bytes taken = round_up(size, alignment_);
        expects<out_of_memory>(taken <= capacity_ - used_, [&] {
            return std::string("region '") + name + "' asks for " + std::to_string(taken) + " bytes, and of the arena's " +
                   std::to_string(capacity_) + " bytes " + std::to_string(capacity_ - used_) + " are left";
        });
        std::byte* const at = base_ + used_;
        used_ += taken;
        if (used_ > high_water_) high_water_ = used_;
        if (used_ > lap_) lap_ = used_;
        if (observer_.acquired) observer_.acquired(observer_.state, name, {at, static_cast<std::size_t>(size)});
        return at;
    }

    /// Gives back what was acquired last. Giving back anything else is a mistake of the library; `in_order` then turns false.
    void release(const char* name, std::byte* at, bytes size) noexcept {
        const bytes taken = round_up(size, alignment_);
        if (at + taken != base_ + used_) in_order_ = false;
        if (observer_.released) observer_.released(observer_.state, name, {at, static_cast<std::size_t>(size)});
        used_ -= taken;
    }

    [[nodiscard]] bytes capacity() const noexcept { return capacity_; }
    [[nodiscard]] bytes used() const noexcept { return used_; }
    /// The most bytes that were held at once since construction or `reset_high_water`.
    [[nodiscard]] bytes high_water() const noexcept { return high_water_; }
    /// The same since construction or the last call, whatever `reset_high_water` did: the marks of one phase after the other.
    [[nodiscard]] bytes lap() noexcept { return std::exchange(lap_, used_); }
    [[nodiscard]] bool in_order() const noexcept { return in_order_; }
    void reset_high_water() noexcept { high_water_ = used_; }
    void observe(arena_observer observer) noexcept { observer_ = observer; }

private:
    memory_block owned_;
    std::byte* base_ = nullptr;
    bytes capacity_ = 0;
    bytes alignment_ = host_alignment;
    bytes used_ = 0;
    bytes high_water_ = 0;
    bytes lap_ = 0;
    bool in_order_ = true;
    arena_observer observer_;
};

/// `size` bytes of an arena for as long as this lives.
class held_region {
public:
    held_region(arena& from, const char* name, bytes size)
        : from_(&from), name_(name), at_(from.acquire(name, size)), size_(size) {}
    held_region(held_region&& other) noexcept
        : from_(std::exchange(other.from_, nullptr)), name_(other.name_), at_(other.at_), size_(other.size_) {}
    held_region& operator=(held_region&&) = delete;
    ~held_region() {
        if (from_) from_->release(name_, at_, size_);
    }

    [[nodiscard]] std::byte* data() const noexcept { return at_; }
    [[nodiscard]] bytes size() const noexcept { return size_; }

    /// The region as elements of T. T is trivially copyable and needs no construction.
    template <class T>
    [[nodiscard]] T* as() const noexcept {
        static_assert(std::is_trivially_copyable_v<T>, "a region holds plain data");
        return reinterpret_cast<T*>(at_);
    }

private:
    arena* from_;
    const char* name_;
    std::byte* at_;
    bytes size_;
};

}  // namespace longspan
