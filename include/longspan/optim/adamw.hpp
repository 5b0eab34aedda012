// SPDX-License-Identifier: Apache-2.0
//
// AdamW: each parameter moves by its mean gradient over the root of its mean squared gradient, so a step's length does not
// depend on the gradient's scale; decay is apart from it. For update t = 1, 2, … with gradient g and learning rate η:
//
//   m ← β₁m + (1 − β₁)g        v ← β₂v + (1 − β₂)g²
//   p ← (1 − ηλ)p − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//
// with λ of the parameter's group. Memory: two moments per parameter (8 bytes in float), and the master where weights are
// stored in two bytes. Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, with the
// decay multiplied by the full rate as in PyTorch's AdamW.
#pragma once

#include <concepts>
#include <string>

#include <longspan/core/adamw_update.hpp>
#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/optim/detail/elementary.hpp>

namespace longspan {

/// What parameters are to weight decay. Decay shrinks what a norm or a softmax can undo; the scale of a norm, a bias and an
/// embedding row (which a rare token visits rarely) should not shrink unless somebody asks for it.
enum class decay_group : unsigned char { matrix, embedding, vector };

/// A table entry that says of itself whether it decays: `decays` (a matrix of a layer), else `rows` > 1 is an embedding and
/// `rows` = 1 a norm's scale or a bias.
template <class P>
concept described_parameter = requires(const P p) {
    { p.decays } -> std::convertible_to<bool>;
    { p.rows } -> std::convertible_to<index>;
};
template <described_parameter P>
[[nodiscard]] constexpr decay_group group_of(const P& p) {
    return p.decays ? decay_group::matrix : p.rows > 1 ? decay_group::embedding : decay_group::vector;
}

/// Hyper-parameters. The defaults are GPT-3's and Llama's (arXiv:2005.14165, appendix B; arXiv:2302.13971): β₂ = 0.95 forgets a
/// spike in 20 updates where 0.999 takes 1,000.
struct adamw {
    double beta1 = 0.9;             ///< memory of the mean gradient
    double beta2 = 0.95;            ///< memory of the mean squared gradient
    double epsilon = 1e-8;          ///< added to the root: a parameter without gradient does not move
    double weight_decay = 0.1;      ///< λ of the layers' matrices
    bool decay_embeddings = false;  ///< λ for embedding tables too
    bool decay_vectors = false;     ///< λ for norms' scales and biases too

    /// λ of a group.
    [[nodiscard]] constexpr double decay_of(decay_group group) const {
        const bool decays = group == decay_group::matrix || (group == decay_group::embedding && decay_embeddings) ||
                            (group == decay_group::vector && decay_vectors);
        return decays ? weight_decay : 0.0;
    }
    /// Itself. Throws bad_argument if a value makes no sense; `constexpr auto optimizer = ls::adamw{…}.check()` does not compile
    /// then, and shows the sentence.
    constexpr adamw check() const {
        using detail::number;
        if (!(beta1 >= 0.0 && beta1 < 1.0)) throw bad_argument("adamw: expected 0 <= beta1 < 1, got " + number(beta1));
        if (!(beta2 >= 0.0 && beta2 < 1.0)) throw bad_argument("adamw: expected 0 <= beta2 < 1, got " + number(beta2));
        if (!(epsilon > 0.0 && epsilon < 1.0)) throw bad_argument("adamw: expected 0 < epsilon < 1, got " + number(epsilon));
        if (!(weight_decay >= 0.0 && weight_decay < 1e6))
            throw bad_argument("adamw: expected a weight_decay of at least 0, got " + number(weight_decay));
        return *this;
    }
};

/// The scalars of update number `update` ≥ 1 for parameters that decay by `decay`; hyper-parameters and rate were checked. Where
/// the backend decides whether a step counts, it computes them too.
LONGSPAN_HD [[nodiscard]] constexpr adamw_update update_scalars(const adamw& hyper, double decay, index update, double learning_rate,
                                                                double gradient_factor) {
    adamw_update scalars{};
    scalars.gradient_factor = gradient_factor;
    scalars.beta1 = hyper.beta1;
    scalars.beta2 = hyper.beta2;
    scalars.epsilon = hyper.epsilon;
    scalars.kept = 1.0 - learning_rate * decay;
    scalars.step = learning_rate / (1.0 - detail::power(hyper.beta1, update));
    scalars.root_factor = 1.0 / detail::square_root(1.0 - detail::power(hyper.beta2, update));
    return scalars;
}

/// Throws bad_argument for a rate that makes no sense.
constexpr void check_learning_rate(double learning_rate) {
    if (!(learning_rate >= 0.0 && learning_rate < 1e6))
        throw bad_argument("adamw: expected a learning rate of at least 0, got " + detail::number(learning_rate));
}

/// The scalars of an update for a group of parameters, everything checked.
[[nodiscard]] constexpr adamw_update prepare(const adamw& hyper, decay_group group, index update, double learning_rate,
                                             double gradient_factor) {
    hyper.check();
    if (update < 1) throw bad_argument("adamw: updates are counted from 1, got " + std::to_string(update));
    check_learning_rate(learning_rate);
    return update_scalars(hyper, hyper.decay_of(group), update, learning_rate, gradient_factor);
}

}  // namespace longspan
