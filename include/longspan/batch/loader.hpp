// SPDX-License-Identifier: Apache-2.0
//
// Batches, one after another, made ahead on a thread of their own while a step runs:
//
//   for (const auto& batch : ls::batches<config>(ls::text_files("corpus/"), {.seed = 42, .steps = 1000}))
//       trainer.step(batch);
//
// The bits of every batch are the same whether it was made ahead or not. `state()` is where the *next* batch to be taken
// begins, whatever the thread has made by then, so a run that is saved and resumed sees what it would have seen. An error in
// the thread (a file vanished) is thrown by the call that would have returned the batch. Memory: (depth + micro-batches) batches.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include <longspan/batch/assemble.hpp>

namespace longspan {

/// A place in the walk over a corpus; part of a snapshot.
struct data_state {
    std::uint64_t seed = 0;    ///< of the order
    index epoch = 0;
    index batch = 0;           ///< within the epoch
    std::uint64_t corpus = 0;  ///< fingerprint of the source
    index budget = 0;          ///< tokens of a batch, and
    index context = 0;         ///< of the longest piece: what `batch` counts in

    friend bool operator==(const data_state&, const data_state&) = default;
};

struct loader_options {
    std::uint64_t seed = 0;
    index steps = 0;     ///< steps handed out before the end; 0: no end
    index epochs = 0;    ///< the end comes before this epoch (counted from 0); 0: no end
    index depth = 2;     ///< batches made ahead; 0: each is made when it is asked for
    index longest = 0;   ///< longest piece of this walk, for length warm-up inside one budget; 0: the context
    std::optional<data_state> resume = {};  ///< go on from here; brings its own seed
};

/// The batches of a source under a strategy. Owns the source. Not for use from several threads.
template <batching B, document_source Source>
class batch_loader {
public:
    /// Throws what batch_plan throws; bad_corpus if `resume` belongs to other text, bad_snapshot if to another budget or context.
    batch_loader(Source source, index context, loader_options options = {});
    ~batch_loader();
    batch_loader(const batch_loader&) = delete;
    batch_loader& operator=(const batch_loader&) = delete;

    /// True when the steps or epochs asked for are over.
    [[nodiscard]] bool done() const { return (options_.steps > 0 && steps_ >= options_.steps) || epochs_over(state_); }
    /// The micro-batches of the next step, valid until the next call. An epoch that ends amid a step goes on into the next one,
    /// or, where it is the last asked for, the step is filled up with batches of padding. Throws bad_argument when done().
    [[nodiscard]] std::span<const token_batch> next_step();
    /// The next batch of a strategy with one micro-batch a step.
    [[nodiscard]] const token_batch& next() requires(B::micro_batches == 1) { return next_step().front(); }

    /// Where the next batch to be taken begins: what a snapshot saves.
    [[nodiscard]] const data_state& state() const { return state_; }
    /// What the batches taken so far count up to; and what a whole epoch will.
    [[nodiscard]] const batch_counts& counts() const { return counts_; }
    [[nodiscard]] batch_counts count_epoch(index epoch) const { return batch_plan<B>(source_, context_, state_.seed).count_epoch(epoch); }
    [[nodiscard]] const Source& source() const { return source_; }
    [[nodiscard]] index context() const { return context_; }

    /// Range-for: each element is a `const token_batch&`, or, under accumulate<N>, a span of N of them.
    class iterator;
    struct sentinel {};
    [[nodiscard]] iterator begin() { return iterator(*this); }
    [[nodiscard]] sentinel end() const { return {}; }

private:
    struct made {
        token_batch what;
        data_state after;
    };
    [[nodiscard]] bool epochs_over(const data_state& at) const { return options_.epochs > 0 && at.epoch >= options_.epochs; }
    [[nodiscard]] data_state place() const;
    void make(made& into);
    void take(token_batch& into);
    void make_ahead();

    Source source_;
    loader_options options_;
    index context_;
    batch_plan<B> plan_;  // the thread's, once it runs
    data_state state_;
    index steps_ = 0;
    batch_counts counts_;
    std::vector<token_batch> step_;  // [micro_batches]

    std::vector<made> ring_;  // [depth] batches made ahead
    index begin_ = 0, count_ = 0;
    bool stop_ = false;
    std::exception_ptr failure_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::thread thread_;
};

/// A configuration, as far as batches go: `batch` is a strategy, `shape.context` the longest piece.
template <class Config>
concept batch_config = requires {
    requires batching<std::remove_cvref_t<decltype(Config::batch)>>;
    { Config::shape.context } -> std::convertible_to<index>;
};

/// The batches that a configuration trains on. Throws as batch_loader does, and bad_corpus if the whole corpus is shorter than
/// one context, bad_argument if it has ids beyond the model's vocabulary.
template <batch_config Config, document_source Source>
[[nodiscard]] auto batches(Source source, loader_options options = {})
    -> batch_loader<std::remove_cvref_t<decltype(Config::batch)>, Source>;

}  // namespace longspan

#include <longspan/batch/detail/loader.hpp>
