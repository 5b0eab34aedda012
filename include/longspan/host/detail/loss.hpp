// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/loss.hpp.
#pragma once

#include <longspan/host/loss.hpp>

namespace longspan::host {

namespace detail {

/// What one row of logits needs from its maximum on: all in order of the row, lane by lane.
template <std::floating_point T>
class softmax_row {
    using P = pack<T>;
    static constexpr index block = 64 * P::lanes;  // partial sums in T stay short; their sum is a double's

public:
    /// Reads v logits; with `keep`, leaves e^(z - max) in their place.
    softmax_row(T* logits, index v, bool keep) : logits_(logits), v_(v) {
        P greatest = P::broadcast(-static_cast<T>(__builtin_inf()));
        each([&](index i, index count) { greatest = host::max(greatest, load(i, count, -static_cast<T>(__builtin_inf()))); });
        const T maximum = host::max(greatest);
        for (index begin = 0; begin < v; begin += block) {
            const index end = begin + block < v ? begin + block : v;
            P logits_here = P::zero(), powers_here = P::zero();
            for (index i = begin; i < end; i += P::lanes) {
                const index count = end - i < P::lanes ? end - i : P::lanes;
                const P z = load(i, count, maximum);
                P power = host::exp(z - P::broadcast(maximum));
                if (keep) store(power, i, count);
                if (count < P::lanes) power = only(power, count);
                powers_here += power;
                logits_here += count < P::lanes ? only(z, count) : z;
            }
            powers_ += static_cast<double>(host::sum(powers_here));
            logit_sum_ += static_cast<double>(host::sum(logits_here));
        }
        log_sum_exp_ = static_cast<double>(maximum) + host::log(pack<double>::broadcast(powers_))[0];
    }

    [[nodiscard]] double log_sum_exp() const { return log_sum_exp_; }
    [[nodiscard]] double logit_sum() const { return logit_sum_; }

    /// Turns the kept powers into dz = factor · (softmax - (1 - smoothing)·[i = target] - smoothing / v), rounded to Rounding.
    template <class Rounding>
    void to_gradient(index target, double factor, double smoothing) {
        const T multiplier = static_cast<T>(factor / powers_);
        const T uniform = static_cast<T>(-factor * smoothing / static_cast<double>(v_));
        const P multipliers = P::broadcast(multiplier), uniforms = P::broadcast(uniform);
        const T hit = P::broadcast(logits_[target])[0];
        each([&](index i, index count) {
            store(rounded<Rounding>(host::fma(load(i, count, T(0)), multipliers, uniforms)), i, count);
        });
        const P at_target =
            host::fma(P::broadcast(hit), multipliers, uniforms) - P::broadcast(static_cast<T>(factor * (1 - smoothing)));
        logits_[target] = rounded<Rounding>(at_target)[0];
    }

private:
    T* logits_;
    index v_;
    double powers_ = 0, logit_sum_ = 0, log_sum_exp_ = 0;

    template <class F>
    LONGSPAN_INLINE void each(F f) {
        index i = 0;
        for (; i + P::lanes <= v_; i += P::lanes) f(i, P::lanes);
        if (i < v_) f(i, v_ - i);
    }
    LONGSPAN_INLINE P load(index i, index count, T pad) const {
        return count == P::lanes ? P::load(logits_ + i) : P::load(logits_ + i, count, pad);
    }
    LONGSPAN_INLINE void store(P value, index i, index count) {
        count == P::lanes ? value.store(logits_ + i) : value.store(logits_ + i, count);
    }
    /// The first `count` lanes, zeros behind them.
    LONGSPAN_INLINE static P only(P value, index count) {
        T lanes[P::lanes];
        value.store(lanes);
        return P::load(lanes, count);
    }
    template <class Rounding>
    LONGSPAN_INLINE static P rounded(P value) {
        if constexpr (std::is_same_v<Rounding, T>) {
            return value;
        } else if constexpr (storage_format<Rounding>) {
            Rounding lanes[P::lanes];
            value.store(lanes);
            return P::load(lanes);
        } else {
            T lanes[P::lanes];
            value.store(lanes);
            for (T& lane : lanes) lane = round_to<Rounding>(lane);
            return P::load(lanes);
        }
    }
};

inline void expect_targets(const std::int32_t* targets, index tokens, index vocabulary, index first_token) {
    for (index t = 0; t < tokens; ++t)
        expects(targets[t] >= -1 && targets[t] < vocabulary, [&] {
            return "linear_cross_entropy: expected a target of -1 (ignored) or of 0 to " + std::to_string(vocabulary - 1) +
                   ", got " + std::to_string(targets[t]) + " at token " + std::to_string(first_token + t);
        });
}

/// The shared walk over chunks: `gradients(first token, tokens, dz)` is called after a chunk's rows hold dz, where Keep is set.
template <class Operand, bool Keep, class X, class W, class Gradients>
cross_entropy_sums cross_entropy_chunks(matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                        const cross_entropy_options& options, index chunk, std::span<std::byte> workspace,
                                        Gradients&& gradients) {
    using T = compute_t<X>;
    using Rounding = std::conditional_t<std::is_void_v<Operand>, std::remove_const_t<X>, Operand>;
    expect_same_extent("linear_cross_entropy", "x.columns", x.columns, "w.columns", w.columns);
    expects(chunk > 0,
            [&] { return "linear_cross_entropy: expected a chunk of at least 1 token, got " + std::to_string(chunk); });
    expects(options.smoothing >= 0 && options.smoothing < 1, [&] {
        return "linear_cross_entropy: expected a label smoothing in [0, 1), got " + std::to_string(options.smoothing);
    });
    expect_targets(targets, x.rows, w.rows, options.first_token);
    const bytes needed = cross_entropy_workspace<std::remove_const_t<X>>(chunk < x.rows ? chunk : x.rows, w.rows);
    expects(static_cast<bytes>(workspace.size()) >= needed &&
                reinterpret_cast<std::uintptr_t>(workspace.data()) % alignof(double) == 0,
            [&] {
                return "linear_cross_entropy: expected a workspace of " + std::to_string(needed) +
                       " bytes aligned to 8 (cross_entropy_workspace), got " + std::to_string(workspace.size());
            });

    cross_entropy_sums sums;
    const index vocabulary = w.rows;
    for (index begin = 0; begin < x.rows; begin += chunk) {
        const index rows = begin + chunk < x.rows ? chunk : x.rows - begin;
        bool any = false;
        for (index r = 0; r < rows; ++r) any = any || targets[begin + r] >= 0;
        if (options.token_losses != nullptr)
            for (index r = 0; r < rows; ++r) options.token_losses[begin + r] = 0;
        if (!any) {
            gradients(begin, rows, matrix_view<T>{});
            continue;
        }
        double* const losses = reinterpret_cast<double*>(workspace.data());
        const matrix_view<T> logits{reinterpret_cast<T*>(losses + rows), rows, vocabulary};
        linear<Operand>(x.row_range(begin, rows), w, nullptr, logits);
        parallel_for(rows, [&](index r) {
            const index target = targets[begin + r];
            T* const row = logits.row(r);
            if (target < 0) {
                losses[r] = 0;  // never read; but no byte of a workspace stays as it was found
                if constexpr (Keep)
                    for (index i = 0; i < vocabulary; ++i) row[i] = T(0);
                return;
            }
            const double weight =
                options.token_weights == nullptr ? 1.0 : static_cast<double>(options.token_weights[begin + r]);
            const double at_target = static_cast<double>(row[target]);
            softmax_row<T> softmax(row, vocabulary, Keep);
            // Differences from the log-sum-exp, each of the size of a loss: no large logits cancel.
            const double smooth = softmax.log_sum_exp() - softmax.logit_sum() / static_cast<double>(vocabulary);
            const double sharp = softmax.log_sum_exp() - at_target;
            losses[r] = options.smoothing == 0 ? sharp : (1 - options.smoothing) * sharp + options.smoothing * smooth;
            if constexpr (Keep) softmax.template to_gradient<Rounding>(target, weight * options.scale, options.smoothing);
        });
        for (index r = 0; r < rows; ++r) {
            if (targets[begin + r] < 0) continue;
            const double weight =
                options.token_weights == nullptr ? 1.0 : static_cast<double>(options.token_weights[begin + r]);
            sums.loss += weight * losses[r];
            sums.weight += weight;
            sums.targets += 1;
            if (options.token_losses != nullptr) options.token_losses[begin + r] = losses[r];
        }
        gradients(begin, rows, logits);
    }
    return sums;
}

}  // namespace detail

template <operand_rounding Operand, storage X, storage W>
cross_entropy_sums linear_cross_entropy(matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                        const cross_entropy_options& options, index chunk, std::span<std::byte> workspace) {
    return detail::cross_entropy_chunks<Operand, false>(x, w, targets, options, chunk, workspace,
                                                        [](index, index, const auto&) {});
}

template <operand_rounding Operand, storage X, storage W, storage_format DX, storage_format DW>
cross_entropy_sums linear_cross_entropy_gradients(matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                                  const cross_entropy_options& options, index chunk, matrix_view<DX> dx,
                                                  matrix_view<DW> dw, std::span<std::byte> workspace) {
    detail::expect_same_extent("linear_cross_entropy_gradients", "dx.rows", dx.rows, "x.rows", x.rows);
    detail::expect_same_extent("linear_cross_entropy_gradients", "dx.columns", dx.columns, "x.columns", x.columns);
    detail::expect_same_extent("linear_cross_entropy_gradients", "dw.rows", dw.rows, "w.rows", w.rows);
    detail::expect_same_extent("linear_cross_entropy_gradients", "dw.columns", dw.columns, "w.columns", w.columns);
    return detail::cross_entropy_chunks<Operand, true>(
        x, w, targets, options, chunk, workspace, [&](index begin, index rows, const auto& dz) {
            if (dz.data == nullptr) {
                for (index r = begin; r < begin + rows; ++r)
                    for (index c = 0; c < dx.columns; ++c) dx(r, c) = from_compute<DX>(0);
                return;
            }
            linear_input_gradient<Operand>(dz, w, dx.row_range(begin, rows));
            linear_weight_gradient<Operand>(dz, x.row_range(begin, rows), dw, accumulate::yes);
        });
}

}  // namespace longspan::host
