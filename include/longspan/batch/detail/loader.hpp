// SPDX-License-Identifier: Apache-2.0
//
// Bodies of batch/loader.hpp.
#pragma once

#include <longspan/batch/loader.hpp>
#include <longspan/data/detail/grouped.hpp>

namespace longspan {

template <batching B, document_source Source>
batch_loader<B, Source>::batch_loader(Source source, index context, loader_options options)
    : source_(std::move(source)),
      options_(options),
      context_(options.longest > 0 ? options.longest : context),
      plan_(source_, context_, options.resume ? options.resume->seed : options.seed),
      step_(static_cast<std::size_t>(B::micro_batches)) {
    expects(options.steps >= 0 && options.epochs >= 0 && options.depth >= 0 && options.longest >= 0, [] {
        return "The steps, epochs, depth and longest piece of a loader are at least 0, where 0 means without end, in place and "
               "the context; one of them is negative.";
    });
    expects(context_ <= context, [&] {
        return "The longest piece of a walk is at most the context of " + std::to_string(context) + " tokens; " +
               std::to_string(context_) + " was asked for.";
    });
    state_ = {options.resume ? options.resume->seed : options.seed, 0, 0, fingerprint(source_), B::budget, context_};
    if (options.resume) {
        const data_state& from = *options.resume;
        expects<bad_snapshot>(from.budget == B::budget && from.context == context_, [&] {
            return "The place to resume from counts batches of " + std::to_string(from.budget) + " tokens in pieces of " +
                   std::to_string(from.context) + "; this configuration has batches of " + std::to_string(B::budget) +
                   " in pieces of " + std::to_string(context_) + ".";
        });
        expects<bad_corpus>(from.corpus == state_.corpus, [&] {
            return "A run is resumed over the text that it began with; this corpus (" + detail::grouped(source_.count()) +
                   " documents, " + detail::grouped(total_tokens(source_)) +
                   " tokens) has other documents, or the same ones changed.";
        });
        plan_.seek(from.epoch, from.batch);
        state_ = from;
    }
    if (options.depth == 0) return;
    ring_.resize(static_cast<std::size_t>(options.depth));
    thread_ = std::thread([this] { make_ahead(); });
}

template <batching B, document_source Source>
batch_loader<B, Source>::~batch_loader() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

template <batching B, document_source Source>
data_state batch_loader<B, Source>::place() const {
    data_state at = state_;  // seed, corpus, budget and context never change
    at.epoch = plan_.epoch();
    at.batch = plan_.batch();
    return at;
}

template <batching B, document_source Source>
void batch_loader<B, Source>::make(made& into) {
    assemble(into.what, source_, plan_.pieces(), B::budget, B::max_pieces);
    plan_.advance();
    into.after.epoch = plan_.epoch();
    into.after.batch = plan_.batch();
}

/// The thread: keeps the ring full until it is told to stop, the end is reached, or a batch cannot be made.
template <batching B, document_source Source>
void batch_loader<B, Source>::make_ahead() {
    const index depth = options_.depth;
    try {
        for (index at = 0; options_.epochs == 0 || plan_.epoch() < options_.epochs; at = (at + 1) % depth) {
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [&] { return stop_ || count_ < depth; });
                if (stop_) return;
            }
            make(ring_[static_cast<std::size_t>(at)]);  // outside the lock: this slot is nobody else's until it is counted
            {
                const std::lock_guard lock(mutex_);
                ++count_;
            }
            changed_.notify_all();
        }
    } catch (...) {
        {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
        }
        changed_.notify_all();
    }
}

/// Moves the next batch to `into`, whose memory the thread will use again.
template <batching B, document_source Source>
void batch_loader<B, Source>::take(token_batch& into) {
    if (ring_.empty()) {
        made next{std::move(into), {}};
        make(next);
        into = std::move(next.what);
        state_.epoch = next.after.epoch;
        state_.batch = next.after.batch;
        return;
    }
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return count_ > 0 || failure_; });
        if (count_ == 0) std::rethrow_exception(failure_);
        made& next = ring_[static_cast<std::size_t>(begin_)];
        std::swap(into, next.what);
        state_.epoch = next.after.epoch;
        state_.batch = next.after.batch;
        begin_ = (begin_ + 1) % options_.depth;
        --count_;
    }
    changed_.notify_all();
}

template <batching B, document_source Source>
std::span<const token_batch> batch_loader<B, Source>::next_step() {
    expects(!done(), [&] {
        return "The batches asked for (" + std::to_string(options_.steps) + " steps, " + std::to_string(options_.epochs) +
               " epochs, 0 for any) are over; ask done() before next().";
    });
    for (token_batch& micro : step_) {
        if (epochs_over(state_)) assemble(micro, source_, {}, B::budget, B::max_pieces);
        else take(micro);
        counts_ += micro.counts;
    }
    ++steps_;
    return step_;
}

template <batching B, document_source Source>
class batch_loader<B, Source>::iterator {
public:
    explicit iterator(batch_loader& loader) : loader_(&loader) { fetch(); }

    [[nodiscard]] decltype(auto) operator*() const {
        if constexpr (B::micro_batches == 1) return static_cast<const token_batch&>(step_.front());
        else return step_;
    }
    iterator& operator++() {
        fetch();
        return *this;
    }
    [[nodiscard]] bool operator==(sentinel) const { return step_.empty(); }

private:
    void fetch() { step_ = loader_->done() ? std::span<const token_batch>() : loader_->next_step(); }

    batch_loader* loader_;
    std::span<const token_batch> step_;  // empty behind the end
};

template <batch_config Config, document_source Source>
auto batches(Source source, loader_options options) -> batch_loader<std::remove_cvref_t<decltype(Config::batch)>, Source> {
    using strategy = std::remove_cvref_t<decltype(Config::batch)>;
    constexpr index context = Config::shape.context;
    static_assert(strategy::budget >= context,
                  "longspan: the token budget of a batch is smaller than the context; a batch holds at least one context.");
    expects<bad_corpus>(total_tokens(source) >= (options.longest > 0 ? options.longest : context), [&] {
        return "A corpus holds at least one context of text, " + detail::grouped(context) + " tokens; this one has " +
               detail::grouped(total_tokens(source)) + " in " + detail::grouped(source.count()) + " documents.";
    });
    if constexpr (requires { Config::shape.vocabulary; })
        expects(source.vocabulary() <= Config::shape.vocabulary, [&] {
            return "The model's vocabulary covers the source's ids; the model has " +
                   detail::grouped(Config::shape.vocabulary) + ", the source " + detail::grouped(source.vocabulary()) + ".";
        });
    return batch_loader<strategy, Source>(std::move(source), context, options);
}

}  // namespace longspan
