// SPDX-License-Identifier: Apache-2.0
//
// Bodies of batch/plan.hpp.
#pragma once

#include <longspan/batch/plan.hpp>
#include <longspan/data/detail/grouped.hpp>

namespace longspan {

inline batch_counts count_batch(std::span<const planned_piece> pieces, index budget) {
    batch_counts counts;
    counts.batches = 1;
    counts.pieces = static_cast<index>(pieces.size());
    for (const planned_piece& p : pieces) {
        counts.tokens += p.length;
        counts.targets += p.targets();
        counts.documents += p.starts() ? 1 : 0;
        counts.split_documents += p.starts() && !p.ends() ? 1 : 0;
    }
    counts.padding = budget - counts.tokens;
    counts.target_weight = static_cast<double>(counts.targets);
    return counts;
}

template <batching B>
template <document_source Source>
batch_plan<B>::batch_plan(const Source& source, index context, std::uint64_t seed) : context_(context), seed_(seed) {
    B::check(context);
    const index count = source.count();
    sizes_.reserve(static_cast<std::size_t>(count));
    first_piece_.reserve(static_cast<std::size_t>(count) + 1);
    first_piece_.push_back(0);
    for (index i = 0; i < count; ++i) {
        const index size = source.size(i);
        if constexpr (B::when_long == long_documents::refuse)
            expects<document_too_long>(size <= context, [&] {
                return "A document must fit into the context of " + detail::grouped(context) + " tokens, because the batching "
                       "strategy refuses longer ones; " + std::string(source.name(i)) + " has " + detail::grouped(size) +
                       ". Say .split(), or raise the context.";
            });
        sizes_.push_back(size);
        first_piece_.push_back(first_piece_.back() + ceil_div(size, context));
    }
    expects<bad_corpus>(first_piece_.back() > 0, [&] {
        return "Batches need at least one token; " +
               (count == 0 ? std::string("there is no document.")
                           : "all " + detail::grouped(count) + " documents are empty.");
    });
    seek(0, 0);
}

template <batching B>
std::span<const planned_piece> batch_plan<B>::pieces() const {
    const auto at = static_cast<std::size_t>(batch_ - window_first_);
    const index begin = at == 0 ? 0 : ends_[at - 1];
    return std::span(pieces_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(ends_[at] - begin));
}

template <batching B>
void batch_plan<B>::advance() {
    ++batch_;
    if (batch_ < window_first_ + static_cast<index>(ends_.size())) return;
    if (!next_window()) begin_epoch(epoch_ + 1);
}

template <batching B>
void batch_plan<B>::seek(index epoch, index batch) {
    expects(epoch >= 0 && batch >= 0, [&] {
        return "Epochs and batches count from 0; epoch " + std::to_string(epoch) + ", batch " + std::to_string(batch) +
               " was asked for.";
    });
    if (window_ < 0 || epoch != epoch_ || batch < window_first_) begin_epoch(epoch);
    batch_ = batch;
    while (batch_ >= window_first_ + static_cast<index>(ends_.size())) {
        const index end = window_first_ + static_cast<index>(ends_.size());
        expects(next_window(), [&] {
            return "Epoch " + std::to_string(epoch) + " has " + detail::grouped(end) + " batches; batch " +
                   detail::grouped(batch) + ", counted from 0, was asked for.";
        });
    }
}

template <batching B>
batch_counts batch_plan<B>::count_epoch(index epoch) const {
    batch_plan walk = *this;
    walk.seek(epoch, 0);
    batch_counts counts;
    for (; walk.epoch() == epoch; walk.advance()) counts += count_batch(walk.pieces(), B::budget);
    return counts;
}

template <batching B>
void batch_plan<B>::begin_epoch(index epoch) {
    constexpr bool carries = B::when_long == long_documents::carry;
    order_.resize(carries ? sizes_.size() : static_cast<std::size_t>(first_piece_.back()));
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<index>(i);
    shuffle(std::span(order_), combine64(seed_, static_cast<std::uint64_t>(epoch)));
    epoch_ = epoch;
    batch_ = window_first_ = 0;
    window_ = -1;
    pieces_.clear();
    ends_.clear();
    static_cast<void>(next_window());  // there is a token, so there is a batch
}

/// Lays out the next window that holds a token; false, and nothing changed, at the end of the epoch.
template <batching B>
bool batch_plan<B>::next_window() {
    const index items = static_cast<index>(order_.size());
    for (index at = window_ + 1; at * window < items; ++at) {
        const auto begin = static_cast<std::size_t>(at * window);
        const auto count = static_cast<std::size_t>(std::min(window, items - at * window));
        const auto window_items = std::span<const index>(order_).subspan(begin, count);
        if constexpr (B::when_long == long_documents::carry) {
            const auto filled = [&](index i) { return sizes_[static_cast<std::size_t>(i)] > 0; };
            if (std::none_of(window_items.begin(), window_items.end(), filled)) continue;
        }
        window_first_ += static_cast<index>(ends_.size());
        window_ = at;
        pieces_.clear();
        ends_.clear();
        if constexpr (B::when_long == long_documents::carry) lay_carried(window_items);
        else lay_window(window_items);
        return true;
    }
    return false;
}

/// The piece with this id, without its place in a batch.
template <batching B>
planned_piece batch_plan<B>::cut(index id) const {
    const auto after = std::upper_bound(first_piece_.begin(), first_piece_.end(), id);
    const auto source = static_cast<std::size_t>(after - first_piece_.begin() - 1);
    const index first = (id - first_piece_[source]) * context_;
    return {static_cast<index>(source), sizes_[source], first, std::min(context_, sizes_[source] - first), {id, 0, 0}};
}

template <batching B>
void batch_plan<B>::lay_window(std::span<const index> ids) {
    std::vector<planned_piece> cuts;
    std::vector<index> lengths;
    for (const index id : ids) {
        cuts.push_back(cut(id));
        lengths.push_back(cuts.back().length);
    }
    batch_layout layout = B::lay(lengths, context_);
    const std::uint64_t key = combine64(seed_, static_cast<std::uint64_t>(epoch_));
    shuffle(std::span(layout), combine64(key, static_cast<std::uint64_t>(window_)));
    for (const batch_placements& placed : layout) {
        for (const placement& p : placed) {
            pieces_.push_back(cuts[static_cast<std::size_t>(p.item)]);
            pieces_.back().place.begin = p.begin;
        }
        close_batch();
    }
}

template <batching B>
void batch_plan<B>::lay_carried(std::span<const index> ordinals) {
    index filled = 0, in_batch = 0;
    for (const index i : ordinals) {
        const index size = sizes_[static_cast<std::size_t>(i)];
        for (index first = 0; first < size;) {
            if (filled == B::budget || in_batch + 1 == B::max_pieces) {
                close_batch();
                filled = in_batch = 0;
            }
            const index length = std::min({context_, B::budget - filled, size - first});
            pieces_.push_back({i, size, first, length, {i, first, filled}});
            filled += length;
            first += length;
            ++in_batch;
        }
    }
    close_batch();
}

}  // namespace longspan
