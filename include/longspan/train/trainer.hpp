// SPDX-License-Identifier: Apache-2.0
//
// The step: zero the gradient sums; for each micro-batch forward, loss and backward under the checkpointing policy; then one
// factor for mean, clip and loss scale, a check that everything is finite, and the update. One arena, sized by the plan when the
// trainer is made; a step allocates nothing.
//
//     ls::trainer<config> trainer{ls::seed{42}};
//     for (const auto& batch : ls::batches<config>(source)) std::cout << trainer.step(batch) << '\n';
//
// Where config.update says by_bucket(), gradients are used as the backward makes them: each bucket is judged and updated by itself.
//
// A run of several phases is `ls::trainer<ls::phases<short_config, long_config>>` and `trainer.step<long_config>(batch)`: one
// parameter store, one step count, and the arena of the hungriest phase.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <longspan/batch/batch.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/decoder.hpp>
#include <longspan/model/fit.hpp>
#include <longspan/model/parameter_store.hpp>
#include <longspan/model/pass.hpp>
#include <longspan/model/plan.hpp>
#include <longspan/optim/adamw.hpp>
#include <longspan/optim/bucket_step.hpp>
#include <longspan/optim/clip.hpp>
#include <longspan/optim/loss_scale.hpp>
#include <longspan/optim/schedule.hpp>
#include <longspan/optim/step_state.hpp>
#include <longspan/train/report.hpp>

namespace longspan {

/// Where all randomness of a run comes from.
struct seed {
    std::uint64_t value = 0;
};

/// What a run has come to, besides its tensors and its place in the data: what a snapshot keeps.
struct run_state {
    std::uint64_t seed = 0;
    index steps = 0;    ///< steps taken, refused ones included; keys of randomness
    index updates = 0;  ///< steps that changed parameters: the optimizer's counter
    index tokens = 0;   ///< tokens of documents seen
    loss_scale scale;
};

namespace detail {

template <class Run>
struct phase_list {
    using first = Run;
    static constexpr index count = 1;
    template <class>
    static constexpr index number = 0;
    template <class Phase>
    static constexpr bool has = std::is_same_v<Phase, Run>;
    template <template <class> class Value>
    static constexpr bytes most = Value<Run>::value;
    static consteval bool check() { return check_config<Run>(); }
    template <class Model>
    static constexpr bool all_of = std::is_same_v<Model, model_of_config<Run>>;
    template <class Update>
    static constexpr bool all_update = std::is_same_v<Update, update_of<Run>>;
    /// What to say when the phase that needs most does not fit.
    template <class Backend>
    static std::string advice(bytes room) {
        return advice_for<Run, Backend>(room);
    }
};
template <class First, class... Rest>
struct phase_list<phases<First, Rest...>> {
    using first = First;
    static constexpr index count = 1 + static_cast<index>(sizeof...(Rest));
    template <class Phase>
    static constexpr index number = [] {
        constexpr bool is[] = {std::is_same_v<Phase, First>, std::is_same_v<Phase, Rest>...};
        index i = 0;
        while (i < count && !is[i]) ++i;
        return i;
    }();
    template <class Phase>
    static constexpr bool has = std::is_same_v<Phase, First> || (std::is_same_v<Phase, Rest> || ...);
    template <template <class> class Value>
    static constexpr bytes most = std::max({Value<First>::value, Value<Rest>::value...});
    static consteval bool check() { return check_config<First>() && (check_config<Rest>() && ...); }
    template <class Model>
    static constexpr bool all_of = (std::is_same_v<Model, model_of_config<Rest>> && ...);
    template <class Update>
    static constexpr bool all_update = (std::is_same_v<Update, update_of<Rest>> && ...);
    template <class Backend>
    static std::string advice(bytes room) {
        constexpr bytes peaks[] = {plan<First, Backend>.peak(), plan<Rest, Backend>.peak()...};
        constexpr std::string (*said[])(bytes) = {advice_for<First, Backend>, advice_for<Rest, Backend>...};
        return said[std::max_element(std::begin(peaks), std::end(peaks)) - std::begin(peaks)](room);
    }
};

}  // namespace detail

/// A step under way; `get` waits for its report. Belongs to its trainer.
template <class Trainer>
class pending_step {
public:
    pending_step(Trainer& trainer, index step) : trainer_(&trainer), step_(step) {}
    /// The report. A step that met a token id outside the vocabulary throws bad_argument here, and was not taken.
    [[nodiscard]] step_report get() const { return trainer_->report_of(step_); }

private:
    Trainer* trainer_;
    index step_;
};

/// Trains Run (a configuration, or `phases` of them) on Backend. Not for use from several threads at once.
template <class Run, class Backend = host::cpu>
    requires(detail::phase_list<Run>::check())
class trainer {
    using list = detail::phase_list<Run>;
    template <class Phase>
    struct peak {
        static constexpr bytes value = plan<Phase, Backend>.peak();
    };
    template <class Phase>
    struct pinned_bytes {
        static constexpr bytes value = plan<Phase, Backend>.pinned;
    };
    template <class Phase>
    static constexpr bytes argument_memory = decoder_memory<model_of_config<Phase>, attention_of<Phase>, Backend>::argument_memory();
    template <class Phase>
    struct batch_bytes {
        static constexpr bytes value = Backend::batch_memory(Phase::batch.budget, Phase::batch.max_pieces) + argument_memory<Phase>;
    };

public:
    using first_phase = typename list::first;
    using backend = Backend;
    using model = model_of_config<first_phase>;
    using precision = typename model::precision;
    static_assert(list::template all_of<model>,
                  "the phases of a run share one parameter store: they may differ in context, attention, batch and checkpoint, "
                  "but not in precision nor in any other number of their shape (nor in context when positions are learned)");
    /// How the optimizer's state is stored.
    using update_type = update_of<first_phase>;
    static_assert(list::template all_update<update_type>,
                  "the phases of a run share one parameter store: they must have the same config.update, or none of them one");
    using store_type = parameter_store<model, update_type>;

    /// Bytes of the arena: the largest peak of the phases.
    static constexpr bytes memory_needed = list::template most<peak>;
    /// Bytes of pinned host memory, beside the arena: what leaves the device under the hungriest phase's policy.
    static constexpr bytes pinned_needed = list::template most<pinned_bytes>;
    /// Reports that wait to be asked for; the oldest is given up when there are more.
    static constexpr index most_pending = 8;

    /// There is no global norm to clip by where gradients are used bucket by bucket.
    static constexpr clip_by_global_norm usual_clip = update_type::knows_norm ? clip_by_global_norm{} : clip_by_global_norm{no_clip};

    /// Allocates the arena, and what is pinned, and draws the parameters. Throws out_of_memory when there is not that much, before anything
    /// is allocated where the backend can tell, with the plan's table and the nearest budget that fits.
    explicit trainer(seed from, adamw optimizer = {}, clip_by_global_norm clip = usual_clip);
    trainer(const trainer&) = delete;
    trainer& operator=(const trainer&) = delete;
    ~trainer();

    /// One optimizer step over the micro-batches; gradients are sums over all of them, divided once by the number of all their
    /// targets. A step without targets, whose loss or gradient is not finite, or one of whose streams (where there are two) left its
    /// range, changes no parameter and says why. By bucket, a gradient that is not finite may be met when parts of the update are done:
    /// run_stopped names the bucket, and so does every later step until a snapshot is loaded. Waits.
    template <class Phase = first_phase>
    step_report step(std::span<const token_batch> micro_batches);
    template <class Phase = first_phase>
    step_report step(const token_batch& batch);
    /// The same at a learning rate of the caller's.
    template <class Phase = first_phase>
    step_report step(std::span<const token_batch> micro_batches, double learning_rate);

    /// Starts a step; a backend with a queue of its own works on while the caller packs the next batch. The batches are read before
    /// this returns.
    template <class Phase = first_phase>
    pending_step<trainer> submit(std::span<const token_batch> micro_batches);
    template <class Phase = first_phase>
    pending_step<trainer> submit(std::span<const token_batch> micro_batches, double learning_rate);

    /// Adds the gradients of one micro-batch to the store's sums and returns the sum of its losses; what `step` is made of, for
    /// trainers that own their loop. `token_losses`, when not empty, takes each target's loss [budget]. Waits.
    template <class Phase = first_phase>
    double accumulate_gradients(const token_batch& batch, std::span<double> token_losses = {});

    /// Forward only: the sum of the targets' losses in nats. Nothing changes. Waits.
    template <class Phase = first_phase>
    double evaluate(const token_batch& batch, std::span<double> token_losses = {});

    /// Forward only; calls f(context, x) with the stream that leaves the last block, [tokens, width], in the backend's memory.
    template <class Phase = first_phase, class F>
    auto forward(const token_batch& batch, F&& f);

    /// Run-time values of the phase's patterns, for patterns which have some (prefix lengths, block lists): those of every step that is
    /// submitted from then on. They travel with the batch; a recorded step is replayed whatever they are. What they point to lies in the
    /// backend's memory and may change between steps. A step throws bad_argument where there are none but should be, and, in the host's
    /// memory, where they make no sense for the batch.
    template <class Phase = first_phase>
    void set_arguments(const stack_arguments<attention_of<Phase>>& arguments) {
        static_assert(std::is_same_v<attention_of<Phase>, attention_of<first_phase>>, "run-time arguments belong to the first phase's patterns");
        set_arguments_of_first_phase(arguments);
    }

    [[nodiscard]] store_type& store() { return store_; }
    /// Waits for the steps under way. What is changed here counts from the next step on.
    [[nodiscard]] run_state& state();
    [[nodiscard]] const adamw& optimizer() const { return optimizer_; }
    [[nodiscard]] const clip_by_global_norm& clip() const { return clip_; }
    [[nodiscard]] arena& memory() { return memory_; }
    [[nodiscard]] arena& pinned() { return pinned_; }
    [[nodiscard]] typename Backend::runtime& runtime() { return *runtime_; }
    /// The runtime's choices of kernels, and taking an earlier run's again: empty, or a sentence on why bits may differ.
    [[nodiscard]] std::string choices() const;
    [[nodiscard]] std::string reuse(std::string_view choices);
    /// Between the store, in whichever memory it lies, and the caller's. Wait.
    void copy_out(std::span<const std::byte> from, std::byte* to);
    void copy_in(std::span<const std::byte> from, std::byte* to);
    /// After the masters were written from outside (a snapshot): rounds them into the weights. A run that had stopped may go on.
    void refresh_weights();
    /// Empty, or why the run cannot go on from its parameters.
    [[nodiscard]] const std::string& stopped() const { return stopped_; }
    /// Waits for a step under way and all before it.
    [[nodiscard]] step_report report_of(index step);

private:
    using layout_type = typename store_type::layout_type;
    using ops_type = typename Backend::ops;

    /// A step that was submitted: what the host knows of it, and what is on its way.
    struct record {
        step_report report;
        typename Backend::template fetched<step_state> state;
    };
    enum class task : unsigned char { begin, update, accumulate, evaluate };

    template <class Phase>
    [[nodiscard]] double scheduled_rate(std::span<const token_batch> micro_batches) const;
    template <class Phase>
    void check_batch(const token_batch& batch, bool training) const;
    template <class Phase>
    static void check_losses(std::span<double> token_losses);
    template <class Phase, std::size_t... I>
    void check_arguments(std::index_sequence<I...>, index documents) const;
    void set_arguments_of_first_phase(const stack_arguments<attention_of<first_phase>>& arguments);
    /// Calls f(batch where ops can read it, arguments of patterns), with room for them held where the backend needs any.
    template <class Phase, class F>
    void with_batch(const token_batch& batch, std::span<double> token_losses, F&& f);
    /// How micro-batches of a phase go through the decoder, in the trainer's memory.
    template <class Phase>
    [[nodiscard]] decoder_pass<Phase, Backend> pass(const stack_values<attention_of<Phase>>& values);
    template <class Phase>
    void add_gradients(const placed_batch& placed, const stack_values<attention_of<Phase>>& values, bool weighted);
    /// The place of a kind of work among the marks and the recordings.
    template <class Phase>
    [[nodiscard]] static std::size_t work_of(task what, bool weighted);
    /// Does `work`, or replays it where the backend has recorded it.
    template <class Phase, class Work>
    void replay(task what, bool weighted, bool recordable, Work&& work);
    template <class Phase>
    [[nodiscard]] const stack_arguments<attention_of<Phase>>& arguments_for() const;
    /// Before work outside a step: the caller's counters go to the backend; what it holds comes back.
    step_state begin_alone();
    [[nodiscard]] step_request request(double learning_rate, double target_weight) const;
    void update();
    /// When a bucket's gradients are complete.
    template <class Ops>
    void measure_squares(const Ops& ops, index bucket);
    template <class Ops>
    void update_bucket(const Ops& ops, index bucket);
    void settle(index step);
    /// `bucket`: whose gradient was found not to be finite, or −1; where they are kept whole they are searched.
    [[nodiscard]] std::string first_not_finite(index bucket, bool weights_alone = false);
    void initialise();
    [[nodiscard]] static std::unique_ptr<typename Backend::runtime> make_runtime();

    std::unique_ptr<typename Backend::runtime> runtime_;
    arena memory_, pinned_;
    held_region state_region_, request_region_;
    store_type store_;
    adamw optimizer_;
    clip_by_global_norm clip_;
    run_state state_;
    index submitted_ = 0;  ///< steps asked for since the trainer was made
    index settled_ = 0;    ///< of these, the reports that are home
    std::array<record, static_cast<std::size_t>(most_pending)> records_;
    std::array<bytes, 2 + 4 * list::count> marks_{};  ///< the high-water mark of each kind of work
    std::array<pass_marks, 2 + 4 * list::count> passes_{};  ///< of work that is a pass, its phases'
    stack_arguments<attention_of<first_phase>> arguments_{};
    bool arguments_set_ = false;
    std::string stopped_;
};

}  // namespace longspan

#include <longspan/train/detail/trainer.hpp>
#include <longspan/train/detail/trainer_buckets.hpp>
#include <longspan/train/detail/trainer_step.hpp>
