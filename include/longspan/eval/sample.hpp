// SPDX-License-Identifier: Apache-2.0
//
// Text from a model: the next token drawn from its distribution, again and again. Each token runs the last `context` tokens
// forward from the start (a cache of keys and values is the device's business); a short phase of its own makes that cheap.
// Draws come from Philox, keyed by the caller's seed and the token's number: the same seed gives the same text.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <longspan/batch/batch.hpp>
#include <longspan/core/error.hpp>
#include <longspan/core/philox.hpp>
#include <longspan/layer/head.hpp>
#include <longspan/model/parameter_layout.hpp>

namespace longspan {

struct sampling {
    index count = 256;         ///< tokens to draw
    double temperature = 0.8;  ///< 0: the likeliest token always
    std::uint64_t seed = 0;
};

/// The logits [vocabulary] of the token after `tokens` (at least one; the last context of them counts), under Phase.
template <class Phase, class Trainer>
[[nodiscard]] std::vector<double> next_token_logits(Trainer& trainer, std::span<const token_id> tokens) {
    using model = typename Trainer::model;
    using head = head_layer<model>;
    using places = typename std::remove_cvref_t<decltype(trainer.store())>::layout_type;
    expects(!tokens.empty(), [] { return "next_token_logits: expected at least one token to go on from, got none"; });
    constexpr index budget = Phase::batch.budget;
    const index used = std::min<index>(static_cast<index>(tokens.size()), Phase::shape.context);
    const std::span<const token_id> recent = tokens.last(static_cast<std::size_t>(used));

    token_batch batch;
    batch.tokens.assign(static_cast<std::size_t>(budget), 0);
    batch.targets.assign(static_cast<std::size_t>(budget), ignored_target);
    std::copy(recent.begin(), recent.end(), batch.tokens.begin());
    batch.pieces.assign(static_cast<std::size_t>(Phase::batch.max_pieces), piece{padding_document, 0, budget});
    batch.pieces[0] = {0, 0, 0};
    batch.pieces[1] = {padding_document, 0, used};

    return trainer.template forward<Phase>(batch, [&](auto& context, auto x) {
        using weight = typename model::template storage<role::weight>;
        using activation = typename model::template storage<role::activation>;
        const weight* const weights = trainer.store().weights().data();
        tensors<typename model::precision, typename head::scratch_table> scratch(*context.memory, context.tokens);
        const auto normed = scratch.template get<"normed">();
        normalisation<model>::forward(context, typename head::weights(weights + places::head_offset), x, normed, scratch);
        const weight* const table = [&] {
            if constexpr (model::shape.tied) return typename embedding_layer<model>::weights(weights).template get<"embedding.weight">().data;
            else return typename head::weights(weights + places::head_offset).template get<"weight">().data;
        }();
        using logit = compute_t<activation>;
        constexpr index vocabulary = model::shape.vocabulary;
        held_region room(*context.memory, "logits", vocabulary * static_cast<bytes>(sizeof(logit)));
        context.ops.template linear<model>(normed.row_range(used - 1, 1), matrix_view<const weight>(table, vocabulary, model::shape.width), nullptr,
                                           matrix_view(room.as<logit>(), 1, vocabulary));
        std::vector<logit> logits(static_cast<std::size_t>(vocabulary));
        trainer.runtime().download(std::span<const logit>(room.as<logit>(), logits.size()), logits.data());
        return std::vector<double>(logits.begin(), logits.end());
    });
}

/// `count` tokens after `prompt`.
template <class Phase, class Trainer>
[[nodiscard]] std::vector<token_id> continue_tokens(Trainer& trainer, std::vector<token_id> prompt, const sampling& how) {
    expects(how.temperature >= 0, [&] { return "sampling.temperature: expected 0 or more, got " + std::to_string(how.temperature); });
    const std::size_t begin = prompt.size();
    const philox_key key = key_of({.seed = how.seed, .step = 0, .layer = 0, .site = 0x73616d70});
    for (index i = 0; i < how.count; ++i) {
        std::vector<double> logits = next_token_logits<Phase>(trainer, prompt);
        std::size_t chosen = static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        expects(std::all_of(logits.begin(), logits.end(), [](double l) { return std::isfinite(l); }),
                [] { return std::string("continue_tokens: the model's logits are not finite, so there is nothing to draw from"); });
        if (how.temperature > 0) {
            const double top = logits[chosen];
            double total = 0;
            for (double& l : logits) total += l = std::exp((l - top) / how.temperature);
            double left = total * static_cast<double>(uniform(philox4x32(element_counter(i), key).word[0]));
            for (chosen = 0; chosen + 1 < logits.size() && left >= logits[chosen]; ++chosen) left -= logits[chosen];
        }
        prompt.push_back(static_cast<token_id>(chosen));
    }
    return {prompt.begin() + static_cast<std::ptrdiff_t>(begin), prompt.end()};
}

}  // namespace longspan
