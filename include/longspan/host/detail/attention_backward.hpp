// SPDX-License-Identifier: Apache-2.0
//
// The backward of host attention. A task takes one key/value head of one segment and walks tiles of keys; for each, the live
// tiles of queries of every head of the group. Here scores stand as [panel of keys][queries][keys in the panel], as Q · K^T
// leaves them, which is how dV^T = dO^T · P and dK^T = Q^T · dS read them; only dS is turned once, for dQ = dS · K.
//
// dK and dV of a tile of keys stay in the thread's memory until all queries are through; dQ is summed in place, over tiles of
// keys in order (in the caller's float workspace when queries' gradients are stored in two bytes).
#pragma once

#include <longspan/host/detail/attention_tile.hpp>

namespace longspan::host::detail {

/// A thread's memory for one tile of keys against one tile of queries.
template <index HeadDim, std::floating_point T>
struct attention_backward_scratch {
    static constexpr index tile = attention_tile;
    static constexpr index panel = panel_columns<T>;
    static constexpr index panels = tile / panel;
    static constexpr index padded = round_up(HeadDim, width_rows);
    static constexpr index wide = round_up(HeadDim, index{tile_columns<T>});

    T keys[HeadDim * tile];          // panels of K^T: [head][32 keys]
    T values[HeadDim * tile];        // panels of V^T
    T key_rows[tile * wide];         // panels of K, as wide as a tile of the product: [key][32 of the head]
    T queries[tile * HeadDim];       // slivers of 12 queries
    T out_gradients[tile * HeadDim];
    T query_columns[tile * padded];  // slivers of 8 of the head: [query][8]
    T out_columns[tile * padded];
    T probabilities[tile * tile];    // [panel][query][32 keys]
    T products[tile * tile];         // dO · V^T, then dS
    T turned[tile * tile];           // dS as slivers of 12 queries: [key][12]
    T key_gradients[panels][padded * panel];  // dK^T
    T value_gradients[panels][padded * panel];
    T log_sums[tile], deltas[tile];
    dropout_tile drawn;
};

/// Σ d_out · out over one head.
template <index HeadDim, std::floating_point T, class DO, class O>
[[nodiscard]] LONGSPAN_INLINE T delta_of(const DO* d_out, const O* out) {
    pack<T> total = pack<T>::zero();
    for_packs<T>(HeadDim, [&](index at, index count) { total = fma(read<T>(d_out, at, count), read<T>(out, at, count), total); });
    return sum(total);
}

/// One row of a tile, one panel of keys: p and dS in place of the raw products. `bits`: which of the panel's keys the query sees.
template <class Score, class Map, std::floating_point T, int Panel>
LONGSPAN_INLINE void finish_gradients(T* probability, T* product, bool tested, std::uint32_t bits, const score_rule<Score, T>& rule,
                                      T natural_scale, T log_sum, T delta, index key_position, index query_position,
                                      const score_arguments& values, const dropout_tile& drawn, index row, index first) {
    using vector = pack<T>;
    for (int l = 0; l < Panel; l += vector::lanes) {
        const vector raised = rule.raise(vector::load(probability + l));
        vector s = raised;
        if constexpr (Score::alibi) s = fma(minus_distance<T>(key_position + l, query_position), vector::broadcast(rule.slope), s);
        vector p = exp2(s - vector::broadcast(log_sum));
        if (tested) p = select(lanes_of<T>(bits, l), p, vector::zero());
        vector dp = vector::load(product + l);
        vector kept_p = p;
        if constexpr (Score::dropout) {
            const auto kept = keep_mask<T>(drawn.of_query(row, first + l), values.dropout.threshold());
            const vector factor = select(kept, vector::broadcast(values.dropout.template scale<T>()), vector::zero());
            kept_p = p * factor;
            dp = dp * factor;
        }
        as_operand<Map>(kept_p).store(probability + l);
        as_operand<Map>(p * (dp - vector::broadcast(delta)) * rule.slope_at(raised, natural_scale)).store(product + l);
    }
}

/// The views and numbers of one call.
template <class Q, class K, class V, class DO, class O, class S, class D, class T>
struct attention_backward_call {
    matrix_view<Q> queries;
    matrix_view<K> keys;
    matrix_view<V> values;
    matrix_view<DO> d_out;
    matrix_view<O> out;
    matrix_view<S> lse;
    matrix_view<const std::remove_const_t<S>> delta;
    matrix_view<T> dq;  // where dQ is summed
    matrix_view<D> dk, dv;
    const score_arguments& score_values;
    philox_key drop_key;
    T natural_scale;
};

/// Packs a tile of keys and values, [key_row, + count) of the columns from `column`, in the three ways that products read them.
template <class Rounding, index HeadDim, class T, class Call>
void pack_keys(attention_backward_scratch<HeadDim, T>& mine, const Call& c, index key_row, index count, index column) {
    constexpr int panel = panel_columns<T>;
    const auto keys = c.keys.row_range(key_row, count).column_range(column, HeadDim);
    const auto values = c.values.row_range(key_row, count).column_range(column, HeadDim);
    operand_of<Rounding, depth_is::contiguous>(keys).template gather<panel>(0, count, 0, HeadDim, mine.keys);
    operand_of<Rounding, depth_is::contiguous>(values).template gather<panel>(0, count, 0, HeadDim, mine.values);
    operand_of<Rounding, depth_is::strided>(keys).template gather<tile_columns<T>>(0, HeadDim, 0, count, mine.key_rows);
}

/// The same for a tile of queries and their outputs' gradients; and the rows' log-sum-exp and delta.
template <class Rounding, index HeadDim, class T, class Call>
void pack_queries(attention_backward_scratch<HeadDim, T>& mine, const Call& c, index query_row, index count, index head) {
    const index column = head * HeadDim;
    const auto queries = c.queries.row_range(query_row, count).column_range(column, HeadDim);
    const auto d_out = c.d_out.row_range(query_row, count).column_range(column, HeadDim);
    operand_of<Rounding, depth_is::contiguous>(queries).template gather<tile_rows>(0, count, 0, HeadDim, mine.queries);
    operand_of<Rounding, depth_is::contiguous>(d_out).template gather<tile_rows>(0, count, 0, HeadDim, mine.out_gradients);
    operand_of<Rounding, depth_is::strided>(queries).template gather<width_rows>(0, HeadDim, 0, count, mine.query_columns);
    operand_of<Rounding, depth_is::strided>(d_out).template gather<width_rows>(0, HeadDim, 0, count, mine.out_columns);
    for (index q = 0; q < count; ++q) {
        const T seen = static_cast<T>(c.lse(query_row + q, head));
        // Nothing seen: an exponent of −∞ for every key.
        mine.log_sums[q] = seen == -std::numeric_limits<T>::infinity() ? -seen : static_cast<T>(static_cast<double>(seen) * log2_e);
        mine.deltas[q] = c.delta.data ? static_cast<T>(c.delta(query_row + q, head))
                                      : delta_of<HeadDim, T>(d_out.row(q), c.out.row(query_row + q) + column);
    }
}

/// Where a tile of keys meets a tile of queries.
struct meeting {
    index query_row, queries, query_position, key_position, keys, head;
    tile_class kind;
};

/// The five products of one meeting: adds to the tile's dK^T and dV^T and to dQ.
template <pattern Pattern, class Score, class Map, index HeadDim, class T, class Call>
void meet(attention_backward_scratch<HeadDim, T>& mine, const Call& c, const meeting& at, const attention_segment& s,
          const typename Pattern::arguments& a, const score_rule<Score, T>& rule) {
    using scratch = attention_backward_scratch<HeadDim, T>;
    constexpr index tile = scratch::tile, panel = scratch::panel;
    constexpr const T* none = nullptr;
    if constexpr (Score::dropout) {
        mine.drawn.draw(c.drop_key, s.document, c.score_values.first_head + at.head, at.query_position, at.queries, at.key_position, at.keys);
    }
    for (index first = 0; first < at.keys; first += panel) {
        const index p = first / panel, live = at.keys - first < panel ? at.keys - first : panel;
        T* const probabilities = mine.probabilities + p * tile * panel;
        T* const products = mine.products + p * tile * panel;
        for (index q = 0; q < at.queries; q += tile_rows) {
            const index rows = at.queries - q < tile_rows ? at.queries - q : index{tile_rows};
            panel_product<tile_rows>(HeadDim, mine.queries + q * HeadDim, mine.keys + first * HeadDim, probabilities + q * panel, rows, false);
            panel_product<tile_rows>(HeadDim, mine.out_gradients + q * HeadDim, mine.values + first * HeadDim, products + q * panel, rows, false);
        }
        // Columns of keys beyond the last hold numbers without meaning, which no product carries to another column.
        const bool tested = at.kind == tile_class::partial;
        for (index q = 0; q < at.queries; ++q) {
            const std::uint32_t bits = tested ? Pattern::key_bits(a, s.ordinal, at.query_position + q, at.key_position + first) : ~0u;
            finish_gradients<Score, Map, T, static_cast<int>(panel)>(probabilities + q * panel, products + q * panel, tested, bits, rule,
                                                                     c.natural_scale, mine.log_sums[q], mine.deltas[q], at.key_position + first,
                                                                     at.query_position + q, c.score_values, mine.drawn, q, first);
        }
        for (index d = 0; d < scratch::padded; d += width_rows) {
            panel_product<width_rows>(at.queries, mine.out_columns + d * at.queries, probabilities, mine.value_gradients[p] + d * panel,
                                      width_rows, true);
            panel_product<width_rows>(at.queries, mine.query_columns + d * at.queries, products, mine.key_gradients[p] + d * panel, width_rows,
                                      true);
        }
        // dS turned, sliver by sliver: this panel's keys are a stretch of each sliver's depth.
        const operand<T, void, depth_is::contiguous> rows_of_panel{products, panel};
        for (index q = 0; q < at.queries; q += tile_rows) {
            rows_of_panel.template gather<tile_rows>(q, at.queries - q < tile_rows ? at.queries - q : index{tile_rows}, 0, live,
                                                     mine.turned + q * at.keys + first * tile_rows);
        }
    }
    for (index q = 0; q < at.queries; q += tile_rows) {
        sliver_product<tile_rows>(at.keys, mine.turned + q * at.keys, mine.key_rows, c.dq.row(at.query_row + q) + at.head * HeadDim,
                                  c.dq.stride, at.queries - q < tile_rows ? at.queries - q : index{tile_rows}, HeadDim, none, true);
    }
}

/// Writes a tile's dK and dV, turned back to rows.
template <index HeadDim, class T, class D>
void write_key_gradients(const attention_backward_scratch<HeadDim, T>& mine, index count, matrix_view<D> dk, matrix_view<D> dv, bool add) {
    constexpr index panel = attention_backward_scratch<HeadDim, T>::panel;
    for (index k = 0; k < count; ++k) {
        const T* const from_k = mine.key_gradients[k / panel] + k % panel;
        const T* const from_v = mine.value_gradients[k / panel] + k % panel;
        for (index d = 0; d < HeadDim; ++d) {
            dk(k, d) = from_compute<D>(add ? from_k[d * panel] + to_compute(dk(k, d)) : from_k[d * panel]);
            dv(k, d) = from_compute<D>(add ? from_v[d * panel] + to_compute(dv(k, d)) : from_v[d * panel]);
        }
    }
}

}  // namespace longspan::host::detail

namespace longspan::host {

template <pattern Pattern, index HeadDim, class Score>
template <storage Q, storage K, storage V, storage DO, storage O, class S, storage_format D>
void attention<Pattern, HeadDim, Score>::backward(matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                  std::span<const attention_segment> segments, const arguments& pattern_arguments,
                                                  const score_arguments& score_values, matrix_view<DO> d_out, matrix_view<O> out,
                                                  matrix_view<S> lse, matrix_view<const std::remove_const_t<S>> delta, matrix_view<D> dq,
                                                  matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys, double* d_sinks,
                                                  std::byte* workspace) {
    using namespace detail;
    using T = compute_t<Q>;
    using scratch = attention_backward_scratch<HeadDim, T>;
    using rounding = typename Score::rounding;
    using map = map_format<Q, rounding>;
    constexpr bool in_place = std::is_same_v<D, T>;
    expect_attention_shapes("attention backward", HeadDim, queries, keys, values, out, lse, segments);
    expect_score_values<Score>("attention backward", score_values);
    expect_same_shape("attention backward", "d_out and out", d_out, out);
    expect_same_shape("attention backward", "dq and queries", dq, queries);
    expect_same_shape("attention backward", "dk and keys", dk, keys);
    expect_same_shape("attention backward", "dv and values", dv, values);
    if (delta.data) expect_same_shape("attention backward", "delta and lse", delta, lse);
    expects(in_place || workspace != nullptr || queries.rows == 0,
            [] { return "attention backward: two-byte gradients need backward_workspace() bytes of workspace"; });
    const index heads = queries.columns / HeadDim, key_heads = keys.columns / HeadDim, group = heads / key_heads;
    const T natural_scale = static_cast<T>(score_values.scale != 0 ? score_values.scale : 1 / std::sqrt(static_cast<double>(HeadDim)));
    const matrix_view<T> sums = [&] {
        if constexpr (in_place) return dq;
        else return matrix_view<T>(reinterpret_cast<T*>(workspace), queries.rows, queries.columns);
    }();
    const attention_backward_call<Q, K, V, DO, O, S, D, T> call{queries, keys, values, d_out, out, lse, delta, sums, dk, dv, score_values,
                                                                key_of(score_values.site), natural_scale};

    parallel_for(static_cast<index>(segments.size()) * key_heads, [&](index task) {
        const attention_segment& s = segments[static_cast<std::size_t>(task / key_heads)];
        const index key_head = task % key_heads, key_column = key_head * HeadDim, group_column = key_column * group;
        scratch& mine = *reinterpret_cast<scratch*>(thread_scratch<scratch, T>(static_cast<index>(sizeof(scratch) / sizeof(T)) + 1));
        for (index q = 0; q < s.query_count; ++q) {
            std::memset(sums.row(s.query_begin + q) + group_column, 0, static_cast<std::size_t>(group * HeadDim) * sizeof(T));
        }
        for (index first = 0; first < s.key_count; first += attention_tile) {
            const index count = s.key_count - first < attention_tile ? s.key_count - first : attention_tile;
            const index key_row = s.key_begin + first;
            const interval key_positions{s.key_position + first, s.key_position + first + count};
            std::memset(mine.key_gradients, 0, sizeof mine.key_gradients);
            std::memset(mine.value_gradients, 0, sizeof mine.value_gradients);
            bool packed = false;
            for (index head = key_head * group; head < (key_head + 1) * group; ++head) {
                const score_rule<Score, T> rule(score_values, HeadDim, head);
                const auto visit = [&](index tile_index, tile_class kind) {
                    if (!packed) pack_keys<rounding>(mine, call, key_row, count, key_column);
                    packed = true;
                    const index begin = tile_index * attention_tile;
                    const index live = s.query_count - begin < attention_tile ? s.query_count - begin : attention_tile;
                    pack_queries<rounding>(mine, call, s.query_begin + begin, live, head);
                    meet<Pattern, Score, map>(mine, call, {s.query_begin + begin, live, s.query_position + begin, key_positions.begin, count, head, kind},
                                              s, pattern_arguments, rule);
                };
                for_each_query_run<Pattern>(pattern_arguments, s.ordinal, key_positions, {s.query_position, s.query_position + s.query_count},
                                            attention_tile, [&](const tile_run& run) {
                                                for (index i = run.first; i < run.last; ++i) visit(i, run.kind);
                                            });
            }
            write_key_gradients(mine, count, dk.row_range(key_row, count).column_range(key_column, HeadDim),
                                dv.row_range(key_row, count).column_range(key_column, HeadDim), add_keys == accumulate::yes);
        }
        if constexpr (!in_place) {
            for (index q = s.query_begin; q < s.query_begin + s.query_count; ++q) {
                for_packs<T>(group * HeadDim, [&](index at, index lanes) {
                    write(read<T>(sums.row(q) + group_column, at, lanes), dq.row(q) + group_column, at, lanes);
                });
            }
        }
    });

    if constexpr (Score::sink) {
        if (d_sinks == nullptr) return;
        // The sink takes probability and gives nothing: d sink = −Σ p(sink) · delta, over queries in order.
        parallel_for(heads, [&](index head) {
            double total = 0;
            for (const attention_segment& s : segments) {
                for (index q = s.query_begin; q < s.query_begin + s.query_count; ++q) {
                    if (std::isinf(lse(q, head))) continue;  // saw nothing, with a sink of −∞
                    const T d = delta.data ? static_cast<T>(delta(q, head))
                                           : delta_of<HeadDim, T>(d_out.row(q) + head * HeadDim, out.row(q) + head * HeadDim);
                    total -= std::exp(score_values.sinks[head] - static_cast<double>(lse(q, head))) * static_cast<double>(d);
                }
            }
            d_sinks[head] += total;
        });
    }
}

}  // namespace longspan::host
