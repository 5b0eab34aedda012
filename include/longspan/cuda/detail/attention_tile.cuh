// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of attention share: where a block of work lies, the runs of live tiles it walks, and what happens to a score
// on its way to a probability. Scores are held in base 2: exp(s) = exp2(s · log2 e), with log2 e folded into the scale.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <longspan/cuda/attention.cuh>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/detail/target.cuh>
#include <longspan/cuda/tile/operands.cuh>
#include <longspan/pattern/runs.hpp>

namespace longspan::cuda::detail {

inline constexpr double log2_e = 1.4426950408889634074, ln_2 = 0.69314718055994530942;

/// What products read: the operands' storage where that is narrow, else the policy's rounding of floats.
template <class Storage, class Rounding>
using operand_of = std::conditional_t<sizeof(Storage) == 2 || std::is_void_v<Rounding>, std::remove_const_t<Storage>, Rounding>;

/// The numbers of a score that kernels take, in base 2.
struct score_numbers {
    float scale;          ///< of q·k; log2 e included unless a cap comes between
    float natural_scale;  ///< of q·k, as given: a factor of dQ and dK
    float cap, inverse_cap;
    const float* slopes;
    const float* sinks;
    std::uint32_t drop_threshold;
    float keep_scale;
    random_origin site;
    int first_head;       ///< of the call's, among those that numbers are drawn for
};
template <class Score>
[[nodiscard]] score_numbers numbers_of(const char* op, const score_arguments& a, index head_dim) {
    const double natural = a.scale != 0 ? a.scale : 1 / std::sqrt(static_cast<double>(head_dim));
    expects(natural > 0, [&] { return std::string(op) + ": expected a scale above 0, got " + std::to_string(natural); });
    if constexpr (Score::soft_cap) {
        expects(a.soft_cap > 0, [&] { return std::string(op) + ": expected a soft_cap above 0, got " + std::to_string(a.soft_cap); });
    }
    if constexpr (Score::alibi) {
        expects(a.slopes != nullptr, [&] { return std::string(op) + ": expected ALiBi's slopes, one a head, got none"; });
    }
    if constexpr (Score::sink) {
        expects(a.sinks != nullptr, [&] { return std::string(op) + ": expected sinks, one a head, got none"; });
    }
    const double cap = Score::soft_cap ? a.soft_cap : 1;
    return {static_cast<float>(Score::soft_cap ? natural / cap : natural * log2_e), static_cast<float>(natural),
            static_cast<float>(cap * log2_e), static_cast<float>(1 / (cap * log2_e)), a.slopes, a.sinks,
            a.dropout.threshold(), a.dropout.scale<float>(), a.site, static_cast<int>(a.first_head)};
}

/// The rule of one head. A plain score is its product times `scale`, which the exponential's multiply-add takes along.
template <class Score, class F>
struct score_rule {
    static constexpr bool plain = !Score::soft_cap && !Score::alibi;
    float scale, cap, inverse_cap, slope;

    __device__ __forceinline__ score_rule(const score_numbers& n, index head)
        : scale(n.scale), cap(n.cap), inverse_cap(n.inverse_cap), slope(0) {
        if constexpr (Score::alibi) slope = n.slopes[head] * static_cast<float>(log2_e);
    }
    /// What a raised score is multiplied by.
    __device__ __forceinline__ float factor() const { return plain ? scale : 1.0f; }
    /// The capped product: before position is added.
    __device__ __forceinline__ float capped(float product) const {
        if constexpr (Score::soft_cap) {
            if constexpr (sizeof(F) == 2) {
                const float e = ptx::exp2_fast(product * scale * static_cast<float>(2 * log2_e));
                return cap - __fdividef(2 * cap, e + 1);  // cap · tanh; e = ∞ leaves cap
            } else {
                return tanhf(product * scale) * cap;
            }
        } else {
            return product * scale;
        }
    }
    __device__ __forceinline__ float placed(float score, float distance) const {
        if constexpr (Score::alibi) return fmaf(-slope, fabsf(distance), score);
        else return score;
    }
    /// d score / d product from the capped product, the scale aside.
    __device__ __forceinline__ float derivative(float capped_product) const {
        if constexpr (Score::soft_cap) {
            const float t = capped_product * inverse_cap;
            return fmaf(-t, t, 1.0f);
        } else {
            return 1.0f;
        }
    }
};

/// Runs of live tiles of one block of work, in shared memory.
template <int Capacity>
struct run_list {
    static constexpr int most = 3 * Capacity;  // a run ends where an interval of `any`, a part of `all` or its rest ends
    struct {
        int first, last, partial;
    } runs[most];
    int count;
    bool more;  ///< a listed pattern's runs found no room

    /// By one thread; the tiles that were walked.
    template <class Walk>
    __device__ __forceinline__ int fill(Walk walk) {
        int n = 0, tiles = 0;
        more = false;
        for (tile_run run; walk.next(run); tiles += static_cast<int>(run.last - run.first)) {
            if (n < most) runs[n++] = {static_cast<int>(run.first), static_cast<int>(run.last), run.kind == tile_class::partial};
            else more = true;
        }
        count = n;
        return tiles;
    }
};

/// Lists runs by one thread, once per block of work: out of line, so that its registers are not the kernel's.
template <class Pattern, int Tile>
__device__ __noinline__ void list_key_runs(run_list<key_capacity<Pattern>>& list, const pattern_values<typename Pattern::arguments>& arguments,
                                           index ordinal, interval queries, interval key_range) {
    list.fill(key_runs<Pattern>(arguments(), ordinal, queries, key_range, Tile));
}
template <class Pattern, int Tile>
__device__ __noinline__ void list_query_runs(run_list<query_capacity<Pattern>>& list, const pattern_values<typename Pattern::arguments>& arguments,
                                             index ordinal, interval keys, interval query_range) {
    list.fill(query_runs<Pattern>(arguments(), ordinal, keys, query_range, Tile));
}

/// A place in a run_list.
template <int Capacity>
struct run_place {
    int run = -1, tile = 0, last = 0;
    bool partial = false, live = true;

    __device__ __forceinline__ void advance(const run_list<Capacity>& list) {
        if (++tile < last) return;
        live = ++run < list.count;
        if (live) tile = list.runs[run].first, last = list.runs[run].last, partial = list.runs[run].partial != 0;
    }
    __device__ __forceinline__ static run_place begin(const run_list<Capacity>& list) {
        run_place at;
        at.advance(list);
        return at;
    }
};

/// The tiles that a block visits for each of several heads: three in shared memory, this one, the next and the one that thread 0
/// finds meanwhile; so that nobody keeps a place in registers.
template <int Capacity>
struct route {
    struct visit {
        int tile, head, partial, live;
    } visits[3];
    run_place<Capacity> at;
    int head, heads_end;

    /// By one thread.
    __device__ __forceinline__ void begin(const run_list<Capacity>& list, int first_head, int end) {
        head = first_head, heads_end = end;
        at = run_place<Capacity>::begin(list);
        find(list, 0), find(list, 1);
    }
    __device__ __forceinline__ void find(const run_list<Capacity>& list, int slot) {
        visits[slot] = {at.tile, head, at.partial, at.live};
        if (!at.live) return;
        at.advance(list);
        if (!at.live && ++head < heads_end) at = run_place<Capacity>::begin(list);
    }
};

/// What a thread block looks up rather than keeps in registers: its segment, and the runs it walks.
template <int Capacity>
struct block_memory {
    attention_segment segment;
    int column;  ///< where the head of keys begins
    int block;   ///< which of the segment's
    int live;    ///< rows of the block
    run_list<Capacity> runs;
};

/// Which of Words · 32 columns each of a warp's Rows rows sees: lane l keeps the words of row l % Rows.
template <int Rows, int Words>
struct row_masks {
    std::uint32_t word[Words];

    /// To the lanes that hold a row's sums: bits 8·n and 8·n + 1 of a word are their columns of block n.
    __device__ __forceinline__ void spread(std::uint32_t (&seen)[Rows / 16][2][Words]) const {
#pragma unroll
        for (int i = 0; i < Rows / 8 * Words; ++i) {
            const int row = i / Words * 8;
            seen[row / 16][row / 8 % 2][i % Words] = __shfl_sync(~0u, word[i % Words], row + tile::lane_id() / 4) >> (tile::lane_id() % 4 * 2);
        }
    }
};
template <int Tiles, int Blocks>
__device__ __forceinline__ void hide(float (&score)[Tiles][Blocks][4], const std::uint32_t (&seen)[Tiles][2][(Blocks + 3) / 4]) {
#pragma unroll
    for (int i = 0; i < Tiles * Blocks * 4; ++i) {
        const int m = i / (Blocks * 4), n = i / 4 % Blocks, e = i % 4;
        if (!(seen[m][e / 2][n / 4] >> (n % 4 * 8 + e % 2) & 1)) score[m][n][e] = -std::numeric_limits<float>::infinity();
    }
}

/// The bytes of dropout for Rows queries of a warp against Columns keys, in the warp's own piece of shared memory; `draw` by the
/// whole warp.
template <int Rows, int Columns>
struct drop_bytes {
    static constexpr int groups = Columns / int{philox_group} + 1;  // keys need not begin at a multiple of 16
    static constexpr int pitch = groups * int{philox_group};
    static constexpr int size = Rows * pitch;
    static_assert(Columns % philox_group == 0);

    std::uint32_t base;
    int skipped;

    __device__ __forceinline__ void draw(std::uint32_t place, philox_key key, index document, index head, index query, index first_key) {
        base = place;
        const index group = floor_div(first_key, philox_group);
        skipped = static_cast<int>(first_key - group * philox_group);
        __syncwarp();
        for (int i = tile::lane_id(); i < Rows * groups; i += 32) {
            const int row = i / groups, g = i % groups;
            const philox_block drawn = philox4x32(attention_map_counter(document, head, query + row, group + g), key);
            ptx::store(base + static_cast<std::uint32_t>(row * pitch + g * int{philox_group}), make_uint4(drawn.word[0], drawn.word[1], drawn.word[2], drawn.word[3]));
        }
        __syncwarp();
    }
    __device__ __forceinline__ std::uint32_t of(int row, int column) const {
        return ptx::load_byte(base + static_cast<std::uint32_t>(row * pitch + column + skipped));
    }
};

/// Two elements side by side, from sums; `add`: onto what is there.
template <class O>
__device__ __forceinline__ void store_pair(O* to, float low, float high, bool add = false) {
    if (add) low += to_compute(to[0]), high += to_compute(to[1]);
    if constexpr (std::is_same_v<O, bf16>) *reinterpret_cast<std::uint32_t*>(to) = ptx::pack_bf16(low, high);
    else if constexpr (std::is_same_v<O, fp16>) *reinterpret_cast<std::uint32_t*>(to) = ptx::pack_fp16(low, high);
    else *reinterpret_cast<float2*>(to) = make_float2(low, high);
}

template <class Q, class K, class V>
inline constexpr bool same_storage = std::is_same_v<std::remove_const_t<Q>, std::remove_const_t<K>> &&
                                     std::is_same_v<std::remove_const_t<Q>, std::remove_const_t<V>> && !std::is_same_v<std::remove_const_t<Q>, double>;

/// The checks that both directions share; returns the number of heads.
template <class Q, class K, class V, class O, class S>
index expect_attention(const char* op, index head_dim, const matrix_view<Q>& q, const matrix_view<K>& k, const matrix_view<V>& v,
                       const matrix_view<O>& out, const S& lse, std::span<const attention_segment> segments) {
    expects(q.columns > 0 && q.columns % head_dim == 0 && k.columns > 0 && k.columns % head_dim == 0 && q.columns % k.columns == 0, [&] {
        return std::string(op) + ": expected whole heads of " + std::to_string(head_dim) +
               ", a whole number of query heads for each key/value head, got " + std::to_string(q.columns) + " and " +
               std::to_string(k.columns) + " columns";
    });
    const index heads = q.columns / head_dim;
    expect_view(op, "queries", q, q.rows, q.columns, 16);
    expect_view(op, "keys", k, k.rows, k.columns, 16);
    expect_view(op, "values", v, k.rows, k.columns, 16);
    expect_view(op, "out", out, q.rows, q.columns, 16);
    expects(lse.rows == q.rows && lse.heads == heads && (lse.data != nullptr || q.rows == 0), [&] {
        return std::string(op) + ": expected lse of [" + std::to_string(q.rows) + ", " + std::to_string(heads) + "], got [" +
               std::to_string(lse.rows) + ", " + std::to_string(lse.heads) + "]" + (lse.data == nullptr ? " at a null pointer" : "");
    });
    if (!segments.empty()) expect_pointer(op, "segments", segments.data(), 16);
    expects(heads <= 65535, [&] { return std::string(op) + ": expected at most 65535 heads, got " + std::to_string(heads); });
    return heads;
}

[[nodiscard]] inline const attention_block* schedule_at(std::span<const attention_segment> segments, bytes offset) {
    return reinterpret_cast<const attention_block*>(reinterpret_cast<const std::byte*>(segments.data()) + offset);
}

/// Lets a kernel use `size` bytes of shared memory; more than 48 KiB has to be asked for. Throws bad_argument where the GPU that this
/// is built for has less.
template <class Kernel>
void allow_shared(Kernel* kernel, int size, const char* op) {
    expects(size <= most_shared_memory, [&] {
        return std::string(op) + ": expected heads and a format for which " + std::to_string(most_shared_memory) +
               " bytes of shared memory suffice, what a thread block has on the GPUs that this is built for, got some that take " + std::to_string(size);
    });
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, size), op, size);
}

}  // namespace longspan::cuda::detail
