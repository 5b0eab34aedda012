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
        } else {
            compute values[lanes];
            for (int l = 0; l < lanes; ++l) values[l] = read(from[l]);
            return load_register(values);
        }
    }

    /// out[k * Width + i] = element (first + i, begin + k), and 0 for i ≥ count.
    template <int Width>
    void gather(index first, index count, index begin, index depth, compute* out) const {
        if constexpr (Depth == depth_is::strided) {
            gather_rows<Width>(data + begin * stride + first, count, depth, out);
        } else {
            gather_transposed<Width>(data + first * stride + begin, count, depth, out);
        }
    }

private:
    template <int Width>
    void gather_rows(const T* from, index count, index depth, compute* out) const {
        for (index k = 0; k < depth; ++k, from += stride, out += Width) {
            if (count < Width) {
                for (int i = 0; i < Width; ++i) out[i] = i < count ? read(from[i]) : compute(0);
                continue;
            }
            int i = 0;
            for (; i + lanes <= Width; i += lanes) store_register<compute>(out + i, read_register(from + i));
            for (; i < Width; ++i) out[i] = read(from[i]);
        }
    }

    template <int Width>
    void gather_transposed(const T* from, index count, index depth, compute* out) const {
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
        for (; k < depth; ++k)
            for (int i = 0; i < Width; ++i) out[k * Width + i] = i < count ? read(from[i * stride + k]) : compute(0);
    }
};

}  // namespace longspan::host::detail
