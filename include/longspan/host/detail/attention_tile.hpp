// SPDX-License-Identifier: Apache-2.0
//
// What the forward and the backward of host attention share: tile sizes, the pieces of memory a thread keeps, and what happens
// to a score on its way to a probability.
//
// Scores are held in base 2: exp(s) = exp2(s · log2 e), with log2 e folded into the scale.
#pragma once

#include <cmath>
#include <memory>
#include <new>
#include <string>

#include <longspan/host/attention.hpp>
#include <longspan/host/detail/product.hpp>
#include <longspan/host/dropout.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/simd.hpp>
#include <longspan/pattern/runs.hpp>

namespace longspan::host::detail {

// 96 is 8 slivers of 12 rows and 3 panels of 32 columns: both sides of a tile divide without rest.
inline constexpr index attention_tile = 96;
// The forward packs a tile of keys once for this many queries; twice as many gain 3 % and cost short windows more.
inline constexpr index attention_queries = 192;
// Rows of a sliver along the head: 64, 96, 128 and 256 are multiples of it. Two registers each, and some for operands.
inline constexpr int width_rows = tile_rows == 12 ? 8 : 4;
// Scores side by side: two registers, or a pack where that is wider.
template <std::floating_point T>
inline constexpr int panel_columns = tile_columns<T> > pack<T>::lanes ? tile_columns<T> : pack<T>::lanes;

inline constexpr double log2_e = 1.4426950408889634074, ln_2 = 0.69314718055994530942;

/// `count` elements of T that this thread keeps for uses of `Tag`; 64-byte aligned.
template <class Tag, std::floating_point T>
[[nodiscard]] T* thread_scratch(index count) {
    struct release {
        void operator()(T* memory) const { ::operator delete(memory, std::align_val_t{64}); }
    };
    thread_local std::unique_ptr<T, release> memory;
    thread_local index size = 0;
    if (size < count) {
        memory.reset();
        memory.reset(static_cast<T*>(::operator new(static_cast<std::size_t>(count) * sizeof(T), std::align_val_t{64})));
        size = count;
    }
    return memory.get();
}

/// c[rows, panel_columns] (= | +=) a[depth, Rows]ᵀ · b[depth, panel_columns], rows of c `panel_columns` apart; rows ≤ Rows.
template <int Rows, std::floating_point T>
void panel_product(index depth, const T* a, const T* b, T* c, index rows, bool add) {
    constexpr int panel = panel_columns<T>;
    const T* const no_bias = nullptr;
    for (int j = 0; j < panel; j += tile_columns<T>) {
        if (rows == Rows) {
            tile_product<Rows, panel>(depth, a, b + j, c + j, panel, no_bias, add);
            continue;
        }
        T edge[Rows * tile_columns<T>];
        tile_product<Rows, panel>(depth, a, b + j, edge, tile_columns<T>, no_bias, false);
        for (index i = 0; i < rows; ++i)
            for (int l = 0; l < tile_columns<T>; ++l) {
                const T value = edge[i * tile_columns<T> + l];
                T& to = c[i * panel + j + l];
                to = add ? to + value : value;
            }
    }
}

/// A value as an operand of a product reads it.
template <class Format, std::floating_point T>
[[nodiscard]] LONGSPAN_INLINE pack<T> as_operand(pack<T> value) {
    if constexpr (std::is_void_v<Format> || std::is_same_v<Format, T>) {
        return value;
    } else if constexpr (storage_format<Format>) {
        Format rounded[pack<T>::lanes];
        value.store(rounded);
        return pack<T>::load(rounded);
    } else {
        static_assert(std::is_same_v<Format, tf32_format> && std::is_same_v<T, float>);
        for (auto& part : value.part) part = round_to_tf32(part);
        return value;
    }
}

/// What P and dS are rounded to: the operands' storage where that is narrow, else the policy's rounding.
template <class Storage, class Rounding>
using map_format = std::conditional_t<sizeof(Storage) == 2, std::remove_const_t<Storage>, Rounding>;

/// Lanes whose bit is set in `bits`, lane l by bit `first + l`.
template <std::floating_point T>
[[nodiscard]] LONGSPAN_INLINE pack_mask<T> lanes_of(std::uint32_t bits, int first) {
    pack_mask<T> result;
    constexpr int each = pack<T>::lanes_each;
    for (int r = 0; r < pack<T>::registers; ++r) {
        typename pack_mask<T>::register_type lane_bits{}, word{};
        for (int l = 0; l < each; ++l) lane_bits[l] = lane_integer<T>{1} << (r * each + l);
        word = word + static_cast<lane_integer<T>>((bits >> first) & 0xffffu);
        result.part[r] = (word & lane_bits) != 0;
    }
    return result;
}

/// The run-time numbers of a score in base 2, and its two derivatives' factors.
template <class Score, std::floating_point T>
struct score_rule {
    T scale;       ///< of q·k, log2 e included unless a cap comes between
    T cap, inverse_cap;
    T slope;       ///< of this head, in base 2

    score_rule(const score_arguments& a, index head_dim, index head)
        : scale(0), cap(0), inverse_cap(0), slope(0) {
        const double natural = a.scale != 0 ? a.scale : 1 / std::sqrt(static_cast<double>(head_dim));
        if constexpr (Score::soft_cap) {
            scale = static_cast<T>(natural / a.soft_cap);
            cap = static_cast<T>(a.soft_cap * log2_e);
            inverse_cap = static_cast<T>(1 / (a.soft_cap * log2_e));
        } else {
            scale = static_cast<T>(natural * log2_e);
        }
        if constexpr (Score::alibi) slope = static_cast<T>(a.slopes[head] * log2_e);
    }

    /// The score before position is added.
    [[nodiscard]] LONGSPAN_INLINE pack<T> raise(pack<T> product) const {
        if constexpr (Score::soft_cap) return tanh(product * pack<T>::broadcast(scale)) * pack<T>::broadcast(cap);
        else return product * pack<T>::broadcast(scale);
    }
    /// d score / d product up to log2 e, from the raised score: what dS is multiplied by.
    [[nodiscard]] LONGSPAN_INLINE pack<T> slope_at(pack<T> raised, T natural_scale) const {
        if constexpr (Score::soft_cap) {
            const pack<T> t = raised * pack<T>::broadcast(inverse_cap);
            return fma(-t, t, pack<T>::broadcast(1)) * pack<T>::broadcast(natural_scale);
        } else {
            return pack<T>::broadcast(natural_scale);
        }
    }
};

/// −|distance| of `lanes` queries (or keys) from one position, for ALiBi.
template <std::floating_point T>
[[nodiscard]] LONGSPAN_INLINE pack<T> minus_distance(index first, index other) {
    T lanes[pack<T>::lanes];
    for (int l = 0; l < pack<T>::lanes; ++l) {
        const index d = first + l - other;
        lanes[l] = static_cast<T>(d < 0 ? d : -d);
    }
    return pack<T>::load(lanes);
}

/// The bytes of dropout for queries [query, + queries) and keys [key, + keys).
struct dropout_tile {
    static constexpr index most_keys = attention_tile + 2 * philox_group;
    index row = 0;      ///< bytes of a query
    index skipped = 0;  ///< keys of the first group before `key`
    alignas(64) std::uint8_t bytes[attention_tile * most_keys];  // [query][key]
    alignas(64) std::uint8_t turned[32 * most_keys];             // [key][query of a panel]

    void draw(philox_key from, index document, index head, index query, index queries, index key, index keys) {
        const index first = key / philox_group, groups = ceil_div(key + keys, philox_group) - first;
        skipped = key - first * philox_group;
        row = groups * philox_group;
        random_bytes(from, attention_map_counter(document, head, query, first), queries, groups, bytes);
    }
    /// Bytes of keys [k, …) for query q.
    [[nodiscard]] const std::uint8_t* of_query(index q, index k) const { return bytes + q * row + k + skipped; }

    /// Makes of_key usable for a panel of `Panel` queries.
    template <int Panel>
    void turn() {
        static_assert(Panel <= 32);
        if constexpr (Panel % 16 != 0) {  // doubles in narrow registers
            for (index k = 0; k < row; ++k) {
                for (index q = 0; q < Panel; ++q) turned[k * Panel + q] = bytes[q * row + k];
            }
        } else {
            for (index q = 0; q < Panel; q += 16) {
                for (index k = 0; k < row; k += 16) turn_square<Panel>(q, k);
            }
        }
    }
    /// Sixteen keys of sixteen queries at once, by perfect shuffles of the first and the second half: four of them transpose.
    template <int Panel>
    void turn_square(index q, index k) {
        typedef std::uint8_t sixteen __attribute__((vector_size(16)));
        sixteen rows[16];
        for (index i = 0; i < 16; ++i) std::memcpy(&rows[i], bytes + (q + i) * row + k, 16);
        for (int round = 0; round < 4; ++round) {
            sixteen next[16];
            for (int i = 0; i < 8; ++i) {
                next[2 * i] = __builtin_shufflevector(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            }
            std::memcpy(rows, next, sizeof rows);
        }
        for (index i = 0; i < 16; ++i) std::memcpy(turned + (k + i) * Panel + q, &rows[i], 16);
    }
    /// Bytes of queries [q, …) for key k.
    template <int Panel>
    [[nodiscard]] const std::uint8_t* of_key(index k, index q) const {
        return turned + (k + skipped) * Panel + q;
    }
};

template <class Q, class K, class V, class O, class S>
void expect_attention_shapes(const char* op, index head_dim, const matrix_view<Q>& q, const matrix_view<K>& k, const matrix_view<V>& v,
                             const matrix_view<O>& out, const matrix_view<S>& lse, std::span<const attention_segment> segments) {
    expect_whole_heads(op, q.columns, head_dim);
    expect_whole_heads(op, k.columns, head_dim);
    expect_same_shape(op, "keys and values", k, v);
    expect_same_shape(op, "queries and out", q, out);
    expect_same_extent(op, "lse.rows", lse.rows, "queries.rows", q.rows);
    expect_same_extent(op, "lse.columns", lse.columns, "heads", q.columns / head_dim);
    expects(k.columns > 0 && q.columns % k.columns == 0, [&] {
        return std::string(op) + ": expected a whole number of query heads for each key/value head, got " +
               std::to_string(q.columns / head_dim) + " and " + std::to_string(k.columns / head_dim);
    });
    for (const attention_segment& s : segments) {
        expects(s.query_begin >= 0 && s.query_count >= 0 && s.query_begin + s.query_count <= q.rows && s.key_begin >= 0 &&
                    s.key_count >= 0 && s.key_begin + s.key_count <= k.rows,
                [&] {
                    return std::string(op) + ": a segment reaches outside its sets: queries [" + std::to_string(s.query_begin) + ", +" +
                           std::to_string(s.query_count) + ") of " + std::to_string(q.rows) + ", keys [" + std::to_string(s.key_begin) +
                           ", +" + std::to_string(s.key_count) + ") of " + std::to_string(k.rows);
                });
    }
}

/// What a score of this kind cannot do without.
template <class Score>
void expect_score_values(const char* op, const score_arguments& a) {
    if constexpr (Score::soft_cap) {
        expects(a.soft_cap > 0, [&] { return std::string(op) + ": expected a soft_cap above 0, got " + std::to_string(a.soft_cap); });
    }
    if constexpr (Score::alibi) {
        expects(a.slopes != nullptr, [&] { return std::string(op) + ": expected ALiBi's slopes, one a head, got none"; });
    }
    if constexpr (Score::sink) {
        expects(a.sinks != nullptr, [&] { return std::string(op) + ": expected sinks, one a head, got none"; });
    }
}

}  // namespace longspan::host::detail
