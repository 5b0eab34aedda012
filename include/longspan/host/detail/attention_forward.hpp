// SPDX-License-Identifier: Apache-2.0
//
// The forward of host attention. A task takes a block of queries of one head and walks the live tiles of keys. Scores stand
// transposed, [keys][panel of queries], as the product of packed keys with a packed panel of queries leaves them: so maxima and
// sums run down a register without crossing lanes, and the probabilities already lie as the second product, V^T · P^T, reads
// them. The output is transposed, [head][panel], until the end.
#pragma once

#include <longspan/host/detail/attention_tile.hpp>

namespace longspan::host::detail {

template <pattern Pattern, index HeadDim, class Score, std::floating_point T>
struct attention_forward_task {
    using vector = pack<T>;
    static constexpr index panel = panel_columns<T>;  // queries side by side
    static constexpr index panels = attention_queries / panel;
    static constexpr index padded = round_up(HeadDim, width_rows);
    static_assert(attention_queries % panel == 0 && attention_tile % panel == 0 && panel % vector::lanes == 0);

    /// A thread's memory.
    struct scratch {
        T queries[panels][HeadDim * panel];    // packed as the right operand of S^T = K · Q^T
        T keys[attention_tile * HeadDim];      // slivers of 12 keys
        T values[attention_tile * padded];     // slivers of 8 columns of V
        T scores[attention_tile * panel];      // [keys][panel]
        T out[panels][padded * panel];         // [head][panel]
        T peak[panels * panel], total[panels * panel];
        dropout_tile drawn;
    };
};

/// Applies the score rule to a tile of raw products, in place; masks, for a partial tile, what the pattern hides.
template <pattern Pattern, class Score, std::floating_point T, int Panel>
void finish_scores(T* scores, index keys, index key_position, index query_position, const typename Pattern::arguments& a, index ordinal,
                   bool partial, const score_rule<Score, T>& rule) {
    using vector = pack<T>;
    const vector hidden = vector::broadcast(-std::numeric_limits<T>::infinity());
    for (index k = 0; k < keys; ++k) {
        const std::uint32_t bits = partial ? Pattern::query_bits(a, ordinal, key_position + k, query_position) : 0;
        for (int l = 0; l < Panel; l += vector::lanes) {
            T* const at = scores + k * Panel + l;
            vector s = rule.raise(vector::load(at));
            if constexpr (Score::alibi) {
                s = fma(minus_distance<T>(query_position + l, key_position + k), vector::broadcast(rule.slope), s);
            }
            if (partial) s = select(lanes_of<T>(bits, l), s, hidden);
            s.store(at);
        }
    }
}

}  // namespace longspan::host::detail

namespace longspan::host {

template <pattern Pattern, index HeadDim, class Score>
template <storage Q, storage K, storage V, storage_format O, class S>
void attention<Pattern, HeadDim, Score>::forward(matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                 std::span<const attention_segment> segments, const arguments& pattern_arguments,
                                                 const score_arguments& score_values, matrix_view<O> out, matrix_view<S> lse, bool merge) {
    using namespace detail;
    using T = compute_t<Q>;
    using vector = pack<T>;
    using task_type = attention_forward_task<Pattern, HeadDim, Score, T>;
    using scratch_type = typename task_type::scratch;
    using rounding = typename Score::rounding;
    using map = map_format<Q, rounding>;
    constexpr index panel = task_type::panel;
    constexpr index tile = attention_tile;
    expect_attention_shapes("attention forward", HeadDim, queries, keys, values, out, lse, segments);
    expect_score_values<Score>("attention forward", score_values);
    const index heads = queries.columns / HeadDim, group = heads / (keys.columns / HeadDim);
    const philox_key drop_key = key_of(score_values.site);
    const T infinity = std::numeric_limits<T>::infinity();

    index blocks = 0;
    for (const attention_segment& s : segments) blocks += ceil_div(s.query_count, attention_queries);
    parallel_for(blocks * heads, [&](index task) {
        // Which block of which segment: segments are few beside blocks. The last blocks of a head come first: under a causal
        // pattern they see the most keys, and the longest task should not start last.
        const index head = task % heads;
        index block = blocks - 1 - task / heads;
        const attention_segment* s = segments.data();
        for (; block >= ceil_div(s->query_count, attention_queries); ++s) block -= ceil_div(s->query_count, attention_queries);
        const index begin = block * attention_queries;
        const index count = s->query_count - begin < attention_queries ? s->query_count - begin : attention_queries;
        const index panels = ceil_div(count, panel);
        const index first_query = s->query_position + begin;
        const index head_column = head * HeadDim, group_column = head / group * HeadDim;
        scratch_type& mine = *reinterpret_cast<scratch_type*>(
            thread_scratch<scratch_type, T>(static_cast<index>(sizeof(scratch_type) / sizeof(T)) + 1));
        const score_rule<Score, T> rule(score_values, HeadDim, head);

        using tall = operand<std::remove_const_t<Q>, rounding, depth_is::contiguous>;
        tall{queries.row(s->query_begin + begin) + head_column, queries.stride}.template gather<static_cast<int>(panel)>(0, count, 0, HeadDim,
                                                                                                                  mine.queries[0]);
        for (index i = 0; i < panels * panel; ++i) mine.peak[i] = -infinity, mine.total[i] = 0;
        std::memset(mine.out, 0, static_cast<std::size_t>(panels) * sizeof mine.out[0]);

        const interval live_queries{first_query, first_query + count};
        const interval key_range{s->key_position, s->key_position + s->key_count};
        const auto visit = [&](index tile_index, tile_class kind) {
            const index key_first = tile_index * tile;
            const index key_count = s->key_count - key_first < tile ? s->key_count - key_first : tile;
            const index key_position = s->key_position + key_first;
            operand<std::remove_const_t<K>, rounding, depth_is::contiguous>{keys.row(s->key_begin + key_first) + group_column, keys.stride}
                .template gather<tile_rows>(0, key_count, 0, HeadDim, mine.keys);
            operand<std::remove_const_t<V>, rounding, depth_is::strided>{values.row(s->key_begin + key_first) + group_column, values.stride}
                .template gather<width_rows>(0, HeadDim, 0, key_count, mine.values);

            for (index p = 0; p < panels; ++p) {
                const index query_position = first_query + p * panel;
                const index live = count - p * panel < panel ? count - p * panel : panel;
                tile_class here = kind;
                if (kind == tile_class::partial) {
                    here = classify<Pattern>(pattern_arguments, s->ordinal, {query_position, query_position + live},
                                             {key_position, key_position + key_count});
                    if (here == tile_class::empty) continue;
                }
                for (index k = 0; k < key_count; k += tile_rows) {
                    panel_product<tile_rows>(HeadDim, mine.keys + k * HeadDim, mine.queries[p], mine.scores + k * panel,
                                             key_count - k < tile_rows ? key_count - k : index{tile_rows}, false);
                }
                finish_scores<Pattern, Score, T, static_cast<int>(panel)>(mine.scores, key_count, key_position, query_position, pattern_arguments,
                                                                          s->ordinal, here == tile_class::partial, rule);
                if constexpr (Score::dropout) {
                    mine.drawn.draw(drop_key, s->document, score_values.first_head + head, query_position, live, key_position, key_count);
                    mine.drawn.template turn<int{panel}>();
                }

                T* const peak = mine.peak + p * panel;
                T* const total = mine.total + p * panel;
                bool moved = false;
                T shrink[panel];
                for (int l = 0; l < panel; l += vector::lanes) {
                    vector top = vector::load(peak + l);
                    const vector before = top;
                    for (index k = 0; k < key_count; ++k) top = max(top, vector::load(mine.scores + k * panel + l));
                    // A query that has seen nothing yet keeps its peak at −∞ and its exponents below 0 come from 0.
                    const vector base = select(top == vector::broadcast(-infinity), vector::zero(), top);
                    vector sum = vector::zero();
                    for (index k = 0; k < key_count; ++k) {
                        T* const at = mine.scores + k * panel + l;
                        vector e = exp2(vector::load(at) - base);
                        sum += e;
                        if constexpr (Score::dropout) {
                            const auto kept = keep_mask<T>(mine.drawn.template of_key<int{panel}>(k, l), score_values.dropout.threshold());
                            e = select(kept, e * vector::broadcast(score_values.dropout.template scale<T>()), vector::zero());
                        }
                        as_operand<map>(e).store(at);
                    }
                    const vector factor = exp2(before - base);
                    factor.store(shrink + l);
                    fma(vector::load(total + l), factor, sum).store(total + l);
                    top.store(peak + l);
                    for (int i = 0; i < vector::lanes; ++i) moved = moved || shrink[l + i] != T(1);
                }
                T* const result = mine.out[p];
                if (moved) {
                    for (index d = 0; d < HeadDim; ++d) {
                        for (int l = 0; l < panel; l += vector::lanes) {
                            (vector::load(result + d * panel + l) * vector::load(shrink + l)).store(result + d * panel + l);
                        }
                    }
                }
                for (index d = 0; d < task_type::padded; d += width_rows) {
                    panel_product<width_rows>(key_count, mine.values + d * key_count, mine.scores, result + d * panel, width_rows, true);
                }
            }
        };
        for_each_run<Pattern>(pattern_arguments, s->ordinal, live_queries, key_range, tile, [&](const tile_run& run) {
            for (index i = run.first; i < run.last; ++i) visit(i, run.kind);
        });

        for (index q = 0; q < count; ++q) {
            const T* const result = mine.out[q / panel] + q % panel;
            T peak = mine.peak[q], total = mine.total[q];
            T weight = 1;  // of what was summed, in units of exp2(peak)
            if constexpr (Score::sink) {
                if (!merge) {
                    const T sink = static_cast<T>(score_values.sinks[head] * log2_e);
                    const T top = sink > peak ? sink : peak;
                    weight = std::exp2(peak - top);
                    total = total * weight + std::exp2(sink - top);
                    peak = top;
                }
            }
            const index row = s->query_begin + begin + q;
            const bool saw = total > 0;
            T inverse = saw ? weight / total : T(0);
            T log_sum = saw ? static_cast<T>((static_cast<double>(peak) + std::log2(static_cast<double>(total))) * ln_2) : -infinity;
            T other = 0;  // share of what out held before
            if (merge) {
                const T before = static_cast<T>(lse(row, head));
                const T top = before > log_sum ? before : log_sum;
                if (top > -infinity) {
                    const T both = top + std::log(std::exp(before - top) + std::exp(log_sum - top));
                    other = std::exp(before - both);
                    inverse *= std::exp(log_sum - both);
                    log_sum = both;
                }
            }
            auto* const to = out.row(row) + head_column;
            for (index d = 0; d < HeadDim; ++d) {
                T value = result[d * panel] * inverse;
                if (merge && other != 0) value = std::fma(to_compute(to[d]), other, value);
                to[d] = from_compute<O>(value);
            }
            lse(row, head) = static_cast<S>(log_sum);
        }
    });
}

}  // namespace longspan::host
