// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/dropout.hpp, and the walk over a batch's documents that host/residual.hpp shares.
#pragma once

#include <longspan/host/dropout.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

namespace detail {

using philox_words = register_t<std::uint32_t>;
using philox_products = register_t<std::uint64_t>;

/// The 64-bit products of the even lanes of a with `factor`.
[[nodiscard]] LONGSPAN_INLINE philox_products even_products(philox_words a, std::uint32_t factor) {
#if defined(__clang__) || !defined(__AVX2__)
    return (reinterpret<philox_products>(a) & 0xffffffffu) * factor;
#else  // g++ 12 multiplies 64 by 64 bits
    using lanes = register_t<std::int32_t>;
    const lanes x = reinterpret<lanes>(a), y = reinterpret<lanes>(factor - philox_words{});
#if defined(__AVX512F__)
    using wide = register_t<long long>;
    return reinterpret<philox_products>(__builtin_ia32_pmuludq512_mask(x, y, wide{}, static_cast<unsigned char>(-1)));
#else
    return reinterpret<philox_products>(__builtin_ia32_pmuludq256(x, y));
#endif
#endif
}

typedef char sixteen_bytes __attribute__((vector_size(16)));

struct philox_halves {
    philox_words high, low;
};

[[nodiscard]] LONGSPAN_INLINE philox_halves multiply(philox_words a, std::uint32_t factor) {
    const philox_products even = even_products(a, factor);
    const philox_products odd = even_products(reinterpret<philox_words>(reinterpret<philox_products>(a) >> 32), factor);
    constexpr std::uint64_t low = 0xffffffffu;
    return {reinterpret<philox_words>((even >> 32) | (odd & ~low)), reinterpret<philox_words>((even & low) | (odd << 32))};
}

/// philox4x32 of one counter a lane.
LONGSPAN_INLINE void philox_lanes(philox_words (&c)[4], philox_key key) {
    std::uint32_t k0 = key.word[0], k1 = key.word[1];
    for (int round = 0; round < 10; ++round) {
        const philox_halves p0 = multiply(c[0], 0xD2511F53u), p1 = multiply(c[2], 0xCD9E8D57u);
        c[0] = p1.high ^ c[1] ^ k0;
        c[2] = p0.high ^ c[3] ^ k1;
        c[1] = p1.low;
        c[3] = p0.low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

}  // namespace detail

inline void random_bytes(philox_key key, const philox_block& first, index rows, index groups, std::uint8_t* out) {
    static_assert(std::endian::native == std::endian::little, "random_bytes: words are stored as they lie in registers");
    constexpr int width = detail::register_bytes / 4;
    const index blocks = rows * groups;
    index row = 0, group = 0;
    for (index begin = 0; begin < blocks; begin += width) {
        std::uint32_t position[width], channels[width];
        for (int i = 0; i < width; ++i) {
            position[i] = first.word[1] + static_cast<std::uint32_t>(row);
            channels[i] = first.word[2] + static_cast<std::uint32_t>(group);
            if (++group == groups) group = 0, ++row;
        }
        detail::philox_words counter[4] = {
            first.word[0] - detail::philox_words{}, {}, {}, first.word[3] - detail::philox_words{}};
        std::memcpy(&counter[1], position, sizeof position);
        std::memcpy(&counter[2], channels, sizeof channels);
        detail::philox_lanes(counter, key);
        std::uint32_t word[4][width], ordered[4 * width];
        std::memcpy(word, counter, sizeof word);
        for (int i = 0; i < width; ++i)
            for (int w = 0; w < 4; ++w) ordered[4 * i + w] = word[w][i];
        const index left = blocks - begin < width ? blocks - begin : width;
        std::memcpy(out + begin * philox_group, ordered, static_cast<std::size_t>(left * philox_group));
    }
}

template <class T>
LONGSPAN_INLINE pack_mask<T> keep_mask(const std::uint8_t* bytes, std::uint32_t threshold) {
    using integers = typename pack_mask<T>::register_type;
    constexpr int each = pack<T>::lanes_each;
    typedef std::uint8_t small __attribute__((vector_size(each)));
    pack_mask<T> keep;
    for (int i = 0; i < pack<T>::registers; ++i) {
        integers wide;
#if defined(__AVX512F__) && !defined(__clang__)  // g++ 12 would take the bytes apart one by one
        if constexpr (sizeof(T) == 4) {
            detail::sixteen_bytes drawn;
            std::memcpy(&drawn, bytes, sizeof drawn);
            wide = __builtin_ia32_pmovzxbd512_mask(drawn, integers{}, static_cast<unsigned short>(-1));
        } else
#endif
        {
            small drawn;
            std::memcpy(&drawn, bytes + i * each, sizeof drawn);
            wide = __builtin_convertvector(drawn, integers);
        }
        keep.part[i] = wide >= static_cast<detail::lane_integer<T>>(threshold);
    }
    return keep;
}

namespace detail {

inline constexpr index dropout_rows = 64;       // tokens of one task
inline constexpr index dropout_bytes = 4096;    // of mask at a time: stays in the first-level cache
inline constexpr index dropout_columns = 1024;  // channels of those

/// f(piece, begin, end) for each non-empty run of tokens of one piece within [begin, end), in order.
template <class F>
void for_each_piece_run(const piece_table& pieces, index begin, index end, F f) {
    index low = 0, high = pieces.count();  // the last piece that begins at or before `begin`
    while (high - low > 1) {
        const index middle = low + (high - low) / 2;
        (pieces.begin(middle) <= begin ? low : high) = middle;
    }
    for (index i = low; i < pieces.count() && pieces.begin(i) < end; ++i) {
        const index from = pieces.begin(i) < begin ? begin : pieces.begin(i);
        const index to = pieces.end(i) < end ? pieces.end(i) : end;
        if (from < to) f(pieces[i], from, to);
    }
}

/// f(token, first channel, channels, bytes) for tiles that cover tokens [begin, end) of one piece; bytes is null if !active.
template <class F>
void for_each_mask_row(const piece& of, index begin, index end, index width, bool active, philox_key key, F f) {
    if (!active) {
        for (index t = begin; t < end; ++t) f(t, index{0}, width, static_cast<const std::uint8_t*>(nullptr));
        return;
    }
    alignas(64) std::uint8_t bytes[dropout_bytes];
    for (index c = 0; c < width; c += dropout_columns) {
        const index columns = width - c < dropout_columns ? width - c : dropout_columns;
        const index groups = ceil_div(columns, philox_group);
        const index rows_at_once = dropout_bytes / (groups * philox_group);
        for (index t = begin; t < end; t += rows_at_once) {
            const index rows = end - t < rows_at_once ? end - t : rows_at_once;
            random_bytes(key, token_counter(of.document, of.position + (t - of.begin), c / philox_group), rows, groups, bytes);
            for (index r = 0; r < rows; ++r) f(t + r, c, columns, bytes + r * groups * philox_group);
        }
    }
}

inline void expect_table(const char* op, const piece_rows& pieces, index rows) {
    expects(pieces.count == rows && pieces.valid() && (rows == 0 || (pieces.of.count() > 0 && pieces.of.begin(0) == 0)), [&] {
        return std::string(op) + ": expected pieces that cover the " + std::to_string(rows) + " rows, got " +
               std::to_string(pieces.of.count()) + " pieces of " + std::to_string(pieces.of.tokens) + " tokens" +
               (pieces.count == pieces.of.tokens ? ""
                                                 : ", of them " + std::to_string(pieces.count) + " from " + std::to_string(pieces.first) + " on");
    });
}

template <class A, class B>
void expect_same_shape(const char* op, matrix_view<A> a, matrix_view<B> b) {
    expects(a.rows == b.rows && a.columns == b.columns, [&] {
        return std::string(op) + ": expected matrices of one shape, got [" + std::to_string(a.rows) + ", " +
               std::to_string(a.columns) + "] and [" + std::to_string(b.rows) + ", " + std::to_string(b.columns) + "]";
    });
}

/// to[i] = keep ? from[i]·scale : 0 for i in [0, count); all kept if bytes is null. bytes reach up to the next multiple of 16.
template <class X, class Y, class C>
void scale_kept(const X* from, Y* to, index count, C scale, std::uint32_t threshold, const std::uint8_t* bytes) {
    const pack<C> factor = pack<C>::broadcast(scale), zero = pack<C>::zero();
    index i = 0;
    for (; i + pack<C>::lanes <= count; i += pack<C>::lanes) {
        const pack<C> value = pack<C>::load(from + i) * factor;
        (bytes ? select(keep_mask<C>(bytes + i, threshold), value, zero) : value).store(to + i);
    }
    if (i < count) {
        const pack<C> value = pack<C>::load(from + i, count - i) * factor;
        (bytes ? select(keep_mask<C>(bytes + i, threshold), value, zero) : value).store(to + i, count - i);
    }
}

}  // namespace detail

template <class X, class Y>
    requires storage_format<std::remove_const_t<X>> && storage_format<Y>
void dropout(matrix_view<X> x, matrix_view<Y> y, const piece_table& pieces, dropout_rate rate, const random_site& site) {
    using C = compute_t<Y>;
    static_assert(std::same_as<compute_t<X>, C>, "dropout: x and y must both be double, or neither");
    detail::expect_same_shape("dropout", x, y);
    detail::expect_table("dropout", pieces, x.rows);
    const philox_key key = key_of(site);
    const C scale = rate.template scale<C>();
    parallel_for(ceil_div(x.rows, detail::dropout_rows), [&](index chunk) {
        const index begin = chunk * detail::dropout_rows;
        const index end = begin + detail::dropout_rows < x.rows ? begin + detail::dropout_rows : x.rows;
        detail::for_each_piece_run(pieces, begin, end, [&](const piece& of, index from, index to) {
            detail::for_each_mask_row(
                of, from, to, x.columns, rate.active(), key, [&](index t, index c, index columns, const std::uint8_t* bytes) {
                    detail::scale_kept(x.row(t) + c, y.row(t) + c, columns, scale, rate.threshold(), bytes);
                });
        });
    });
}

}  // namespace longspan::host
