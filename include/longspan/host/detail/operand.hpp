// SPDX-License-Identifier: Apache-2.0
//
// One operand of a product, and how slivers of it are packed: `Width` rows (or columns) side by side, one step of the depth
// after another, as tile_product reads them. Reading a two-byte format and rounding to an operand format happen here, beside
// the copy; an operand whose depth is contiguous is transposed in registers on the way.
#pragma once

#include <cstring>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/host/detail/tile.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::host::detail {

/// Where the depth of an operand lies in memory.
enum class depth_is { contiguous, strided };

/// A register of floats rounded to tf32, the bits of tf32_format::round.
[[nodiscard]] LONGSPAN_INLINE register_t<float> round_to_tf32(register_t<float> value) {
    const words from = reinterpret<words>(value);
    const words rounded = (from + 0x0fffu + ((from >> 13) & 1u)) & 0xffffe000u;
    const words quiet = (from & 0xffffe000u) | 0x00400000u;
    const auto is_nan = (from & 0x7fffffffu) > 0x7f800000u;
    return reinterpret<register_t<float>>(is_nan ? quiet : rounded);
}

/// Element (i, k) is data[i * stride + k] where the depth is contiguous, else data[k * stride + i]. Values are rounded to
/// `Rounding` as they are read (void: taken as they are stored).
template <storage_format T, class Rounding, depth_is Depth>
struct operand {
    using compute = compute_t<T>;
    static constexpr int lanes = register_lanes<compute>;
    static constexpr bool as_stored = std::is_void_v<Rounding> || std::is_same_v<Rounding, T>;

    const T* data;
    index stride;

    [[nodiscard]] LONGSPAN_INLINE static compute read(T stored) {
        if constexpr (as_stored) {
            return to_compute(stored);
        } else {
            return round_to<Rounding>(to_compute(stored));
        }
    }

    [[nodiscard]] LONGSPAN_INLINE static register_t<compute> read_register(const T* from) {
        if constexpr (as_stored && std::is_same_v<T, compute>) {
            return load_register(from);
        } else if constexpr (as_stored) {
            patterns stored;
            std::memcpy(&stored, from, sizeof stored);
            return decode<T>(stored);
        } else if constexpr (std::is_same_v<Rounding, tf32_format>) {
            return round_to_tf32(operand<T, void, Depth>::read_register(from));
        } else {
            compute values[lanes];
            for (int l = 0; l < lanes; ++l) values[l] = read(from[l]);
            return load_register(values);
        }
    }

    /// Whole slivers that are best packed together: of a row of memory, a run of a few lines rather than a splinter.
    static constexpr index together = Depth == depth_is::strided ? 4 : 1;

    /// Packs `count` elements from `first` on as ⌈count / Width⌉ slivers, one after another, for `depth` steps from `begin`:
    /// out[(s * depth + k) * Width + i] = element (first + s * Width + i, begin + k), and 0 from `count` on.
    template <int Width>
    void gather(index first, index count, index begin, index depth, compute* out) const {
        while (count > 0) {
            const index width = count < Width ? count : Width;
            index slivers = 1;
            if constexpr (Depth == depth_is::contiguous) {
                transpose_sliver<Width>(data + first * stride + begin, width, depth, out);
            } else if (count >= together * Width) {
                copy_slivers<Width, together>(data + begin * stride + first, depth, out);
                slivers = together;
            } else if (width == Width) {
                copy_slivers<Width, 1>(data + begin * stride + first, depth, out);
            } else {
                copy_edge<Width>(data + begin * stride + first, width, depth, out);
            }
            first += slivers * Width;
            count -= slivers * Width;
            out += slivers * Width * depth;
        }
    }

private:
    /// Width elements of one step of the depth.
    template <int Width>
    LONGSPAN_INLINE static void copy_step(const T* from, compute* to) {
        if constexpr (as_stored && std::is_same_v<T, compute>) {
            std::memcpy(to, from, Width * sizeof(T));
        } else {
            int i = 0;
            for (; i + lanes <= Width; i += lanes) store_register<compute>(to + i, read_register(from + i));
            for (; i < Width; ++i) to[i] = read(from[i]);
        }
    }

    template <int Width, int Slivers>
    void copy_slivers(const T* from, index depth, compute* out) const {
        // Steps lie in different pages as often as not, and the hardware's prefetch stops at each: 24 steps hide the third
        // level's latency, and are worth a sixth of a weight gradient's speed.
        constexpr index distance = 24;
        for (index k = 0; k < depth; ++k, from += stride, out += Width) {
            const T* const ahead = k + distance < depth ? from + distance * stride : from;
            for (int s = 0; s < Slivers; ++s) {
                for (int i = 0; i < Width; i += static_cast<int>(64 / sizeof(T))) __builtin_prefetch(ahead + s * Width + i);
                copy_step<Width>(from + s * Width, out + s * Width * depth);
            }
        }
    }

    template <int Width>
    void copy_edge(const T* from, index count, index depth, compute* out) const {
        for (index k = 0; k < depth; ++k, from += stride, out += Width)
            for (int i = 0; i < Width; ++i) out[i] = i < count ? read(from[i]) : compute(0);
    }

    template <int Width>
    void transpose_sliver(const T* from, index count, index depth, compute* out) const {
        constexpr int tail = Width % lanes;
        index k = 0;
        for (; k + lanes <= depth; k += lanes) {
            for (int group = 0; group < Width; group += lanes) {
                register_t<compute> rows[lanes];
                for (int i = 0; i < lanes; ++i) {
                    const bool exists = group + i < count;  // count ≤ Width
                    rows[i] = exists ? read_register(from + (group + i) * stride + k) : register_t<compute>{};
                }
                transpose<compute>(rows);
                for (int l = 0; l < lanes; ++l) {
                    compute* const to = out + (k + l) * Width + group;
                    if (group + lanes <= Width) {
                        store_register<compute>(to, rows[l]);
                    } else {
                        std::memcpy(to, &rows[l], tail * sizeof(compute));
                    }
                }
            }
        }
        const int rest = static_cast<int>(depth - k);
        from += k, out += k * Width;
        for (int l = 0; l < rest; ++l)
            for (int i = 0; i < Width; ++i) out[l * Width + i] = i < count ? read(from[i * stride + l]) : compute(0);
    }
};

}  // namespace longspan::host::detail
