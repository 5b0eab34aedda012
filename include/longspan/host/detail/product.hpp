// SPDX-License-Identifier: Apache-2.0
//
// The blocked product behind host/gemm.hpp: y[m, n] (= | +=) a[m, k] · b[k, n] (+ bias[n]).
//
// The result is cut into blocks, one task each. For every stretch of the depth a task packs its columns of b once (a panel that
// stays in the second-level cache), then walks its rows by slivers, packed just before their use.
// The stretches of the depth are a function of the depth alone, and the sum over them is in order: the blocks' shape decides
// speed, never a bit.
//
// Memory: a thread keeps one scratch per compute type, allocated at its first product and kept until it ends:
// depth_per_block * (columns_per_task + 4 * tile_rows) elements, and rows_per_task * columns_per_task more once it has written
// a result in a narrower format than it was computed in. In floats: 560 KiB, and 528 KiB. Nothing else is ever allocated.
//
// Measured on a Zen 5 core against Eigen 3.4's sgemm at 512^3 in the same process (= 100 %): 110 to 125 % for the products of
// a GPT-2 124M layer at 1,024 tokens, 90 to 120 % for 8,192 tokens of width 256 (least: the gradient of a 256 x 256 weight).
// Eigen itself falls to 80 % on these, as its packed right-hand side outgrows the second-level cache.
#pragma once

#include <memory>
#include <new>

#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/detail/operand.hpp>
#include <longspan/host/detail/tile.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host::detail {

inline constexpr index depth_per_block = 256;   // a sliver of a (12 KiB of floats) stays in L1 beside b
inline constexpr index columns_per_task = 512;  // the panel of b (512 KiB of floats) stays in 1 MiB of L2
inline constexpr index rows_per_task = 264;     // 22 slivers: packing the panel costs a few per cent of using it

/// Rows and columns of one task's block.
struct task_shape {
    index rows, columns;
    [[nodiscard]] constexpr index count(index m, index n) const { return ceil_div(m, rows) * ceil_div(n, columns); }
};

/// The largest blocks that still make 6 tasks of an m x n result, evened out: small results (a narrow layer's weight gradient
/// sums 8,192 tokens into 256 x 256) should not leave cores idle. A function of the shape, not of the threads.
[[nodiscard]] constexpr task_shape tasks_for(index m, index n) {
    constexpr task_shape shapes[] = {{rows_per_task, columns_per_task}, {264, 256}, {132, 256}, {132, 128}};
    task_shape chosen = shapes[3];
    for (const task_shape& shape : shapes) {
        if (shape.count(m, n) < 6) continue;
        chosen = shape;
        break;
    }
    if (m <= 0 || n <= 0) return chosen;
    // Whole slivers and whole tiles of any type on any machine.
    return {round_up(ceil_div(m, ceil_div(m, chosen.rows)), 12), round_up(ceil_div(n, ceil_div(n, chosen.columns)), 32)};
}

/// Memory that one thread keeps for its products.
template <std::floating_point T>
class product_scratch {
public:
    static constexpr index panel_size = depth_per_block * columns_per_task;
    static constexpr index slivers_size = depth_per_block * 4 * tile_rows;

    /// panel_size elements, then slivers_size.
    [[nodiscard]] static T* operands() {
        thread_local const owner memory = allocate(panel_size + slivers_size);
        return memory.get();
    }
    [[nodiscard]] static T* result() {
        thread_local const owner memory = allocate(rows_per_task * columns_per_task);
        return memory.get();
    }

private:
    static constexpr std::align_val_t alignment{64};
    struct release {
        void operator()(T* memory) const { ::operator delete(memory, alignment); }
    };
    using owner = std::unique_ptr<T, release>;
    static owner allocate(index count) {
        return owner(static_cast<T*>(::operator new(static_cast<std::size_t>(count) * sizeof(T), alignment)));
    }
};

/// A packed sliver of at most `Rows` rows against a packed panel: c[rows, columns].
template <int Rows, std::floating_point T>
void sliver_product(index depth, const T* sliver, const T* panel, T* c, index stride, index rows, index columns, const T* bias,
                    bool add) {
    constexpr int width = tile_columns<T>;
    for (index j = 0; j < columns; j += width, panel += depth * width) {
        const T* const tile_bias = bias == nullptr ? nullptr : bias + j;
        if (rows == Rows && j + width <= columns) {
            tile_product<Rows>(depth, sliver, panel, c + j, stride, tile_bias, add);
            continue;
        }
        T edge[Rows * width];
        tile_product<Rows>(depth, sliver, panel, edge, width, tile_bias, false);
        for (index i = 0; i < rows; ++i)
            for (index l = 0; l < width && j + l < columns; ++l) {
                T& to = c[i * stride + j + l];
                to = add ? to + edge[i * width + l] : edge[i * width + l];
            }
    }
}

/// The block of `rows` x `columns` at (row, column) of the product, over the whole depth, into c. `bias` (null for none) has
/// its entries for the block padded to whole tiles.
template <std::floating_point T, class A, class B>
void block_product(const A& a, const B& b, index row, index column, index rows, index columns, index depth, T* c, index stride,
                   const T* bias, bool add) {
    constexpr int width = tile_columns<T>;
    T* const panel = product_scratch<T>::operands();
    T* const slivers = panel + product_scratch<T>::panel_size;
    // Equal stretches, so that a depth just past a multiple does not end in a splinter.
    const index stretches = depth > depth_per_block ? ceil_div(depth, depth_per_block) : 1;
    const index step = round_up(ceil_div(depth, stretches), 16);
    index k = 0;
    do {
        const index length = k + step < depth ? step : depth - k;
        b.template gather<width>(column, columns, k, length, panel);
        const T* const bias_here = k == 0 ? bias : nullptr;
        const bool add_here = add || k > 0;
        index i = 0;
        const auto run = [&]<int Rows>(std::integral_constant<int, Rows>, index count) {
            a.template gather<Rows>(row + i, count, k, length, slivers);
            for (index s = 0; s < count; s += Rows, i += Rows)
                sliver_product<Rows>(length, slivers + s * length, panel, c + i * stride, stride,
                                     count - s < Rows ? count - s : Rows, columns, bias_here, add_here);
        };
        while (i + A::together * tile_rows <= rows) run(std::integral_constant<int, tile_rows>{}, A::together * tile_rows);
        while (i + tile_rows <= rows) run(std::integral_constant<int, tile_rows>{}, tile_rows);
        if (const index left = rows - i; left > 2 * tile_rows / 3) {
            run(std::integral_constant<int, tile_rows>{}, left);
        } else if (left > tile_rows / 3) {
            run(std::integral_constant<int, 2 * tile_rows / 3>{}, left);
        } else if (left > 0) {
            run(std::integral_constant<int, tile_rows / 3>{}, left);
        }
        k += length;
    } while (k < depth);
}

/// y (= | +=) a · b + bias over a depth of `depth`, on all threads; rounded once to y's format.
template <class A, class B, storage_format Y, storage_format Bias>
void product(const A& a, const B& b, index depth, matrix_view<Y> y, const Bias* bias, bool add) {
    using T = compute_t<Y>;
    static_assert(std::is_same_v<T, typename A::compute> && std::is_same_v<T, typename B::compute>,
                  "a product's operands and result are computed in one type: all fp64, or none");
    static_assert(columns_per_task % tile_columns<T> == 0 && rows_per_task % tile_rows == 0);
    const task_shape shape = tasks_for(y.rows, y.columns);
    const index row_tasks = ceil_div(y.rows, shape.rows);
    parallel_for(shape.count(y.rows, y.columns), [&](index task) {
        const index row = task % row_tasks * shape.rows, column = task / row_tasks * shape.columns;
        const index rows = y.rows - row < shape.rows ? y.rows - row : shape.rows;
        const index columns = y.columns - column < shape.columns ? y.columns - column : shape.columns;
        T bias_row[columns_per_task];
        const T* const block_bias = bias == nullptr ? nullptr : bias_row;
        if (bias != nullptr)
            for (index j = 0; j < shape.columns; ++j) bias_row[j] = j < columns ? to_compute(bias[column + j]) : T(0);
        if constexpr (std::is_same_v<Y, T>) {
            block_product<T>(a, b, row, column, rows, columns, depth, &y(row, column), y.stride, block_bias, add);
        } else {
            T* const sums = product_scratch<T>::result();
            block_product<T>(a, b, row, column, rows, columns, depth, sums, shape.columns, block_bias, false);
            for (index i = 0; i < rows; ++i)
                for (index j = 0; j < columns; j += pack<T>::lanes) {
                    const index count = columns - j < pack<T>::lanes ? columns - j : pack<T>::lanes;
                    Y* const to = &y(row + i, column + j);
                    const pack<T> sum = pack<T>::load(sums + i * shape.columns + j, count);
                    (add ? sum + pack<T>::load(to, count) : sum).store(to, count);
                }
        }
    });
}

}  // namespace longspan::host::detail
