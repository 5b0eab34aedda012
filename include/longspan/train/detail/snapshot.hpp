// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/snapshot.hpp.
#pragma once

#include <cmath>

#include <longspan/train/detail/snapshot_conversion.hpp>
#include <longspan/train/snapshot.hpp>

namespace longspan {

namespace detail {

[[nodiscard]] constexpr const char* name_of(norm_kind kind) { return kind == norm_kind::rms ? "rms" : "layer"; }
[[nodiscard]] constexpr const char* name_of(mlp_kind kind) {
    return kind == mlp_kind::silu_gated ? "silu_gated" : kind == mlp_kind::gelu ? "gelu" : "gelu_tanh";
}
[[nodiscard]] constexpr const char* name_of(position_kind kind) {
    switch (kind) {
        case position_kind::rotary: return "rotary";
        case position_kind::learned: return "learned";
        case position_kind::sinusoidal: return "sinusoidal";
        case position_kind::alibi: return "alibi";
        case position_kind::none: break;
    }
    return "none";
}
[[nodiscard]] constexpr const char* name_of(filling kind) {
    return kind == filling::packed ? "packed" : kind == filling::bucketed ? "bucketed" : "padded";
}
[[nodiscard]] constexpr const char* name_of(long_documents kind) {
    return kind == long_documents::split ? "split" : kind == long_documents::refuse ? "refuse" : "carry";
}

/// The same for patterns that see the same, however they are written and whichever compiler made them: what `contains` says of
/// positions that are dense at first and then 3% apart, far beyond any context. Patterns with run-time values have none.
template <class P>
[[nodiscard]] std::string pattern_fingerprint() {
    if constexpr (!std::is_empty_v<typename P::arguments>) {
        return "run-time";
    } else {
        std::vector<index> positions;
        for (index at = 0; at < (index{1} << 20); at += 1 + at / 32) positions.push_back(at);
        std::string seen;
        for (const index query : positions)
            for (const index key : positions) seen += P::contains({}, 0, query, key) ? '1' : '0';
        checksum sum;
        sum.add(seen);
        return hex_digits(sum.value());
    }
}

[[nodiscard]] inline std::vector<index> shape_of(const parameter& p) {
    if (p.decays || p.rows > 1) return {p.rows, p.columns};
    return {p.columns};
}

/// What a snapshot holds of a trainer's store, where the host can read and write it: the store itself, or copies of it. Memory: none
/// on the host, the bytes of the file for a store in a device's memory.
template <class Trainer>
class saved_runs {
    using store_type = typename Trainer::store_type;
    using master = typename store_type::master;
    using moment = typename store_type::stored_moment;

public:
    explicit saved_runs(Trainer& trainer) : trainer_(trainer) {
        masters_ = readable(trainer.store().masters(), master_copy_);
        first_ = readable(trainer.store().first_moments(), first_copy_);
        second_ = readable(trainer.store().second_moments(), second_copy_);
        first_scales_ = readable(trainer.store().first_scales(), first_scales_copy_);
        second_scales_ = readable(trainer.store().second_scales(), second_scales_copy_);
    }
    /// What was written here becomes the trainer's.
    void put_back() {
        if constexpr (!in_place) {
            const auto put = [&](auto copy, auto run) {
                if (!run.empty()) trainer_.copy_in(std::as_bytes(copy), std::as_writable_bytes(run).data());
            };
            put(masters_, trainer_.store().masters());
            put(first_, trainer_.store().first_moments());
            put(second_, trainer_.store().second_moments());
            put(first_scales_, trainer_.store().first_scales());
            put(second_scales_, trainer_.store().second_scales());
        }
        trainer_.refresh_weights();
    }

    /// Of a file that stores them in other formats.
    void convert(const snapshot_reader& file, const std::vector<converted_parameter>& parameters) {
        convert_into(file, parameters, masters_, first_, first_scales_, second_, second_scales_);
    }

    /// Calls f(name of the tensor, shape, elements) for all that a snapshot holds.
    template <class F>
    void for_each(F&& f) {
        store_type::layout_type::for_each([&](const std::string& name, const parameter& p, index offset) {
            const auto part = [&](auto all) { return all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(p.size())); };
            const std::vector<index> shape = shape_of(p);
            f(name, shape, part(masters_));
            f(first_moment_of(name), shape, part(first_));
            f(second_moment_of(name), shape, part(second_));
            if constexpr (store_type::in_eight_bits) {
                // Every block that the parameter touches; one that it shares with the next is in the file twice.
                const index first_block = offset / eight_bit::block, blocks = ceil_div(offset + p.size(), eight_bit::block) - first_block;
                const auto scales = [&](auto all) { return all.subspan(static_cast<std::size_t>(first_block), static_cast<std::size_t>(blocks)); };
                f(first_scale_of(name), std::vector<index>{blocks}, scales(first_scales_));
                f(second_scale_of(name), std::vector<index>{blocks}, scales(second_scales_));
            }
        });
    }

private:
    static constexpr bool in_place = Trainer::backend::in_host_memory;

    template <class T>
    [[nodiscard]] std::span<T> readable(std::span<T> run, std::vector<T>& copy) {
        if constexpr (in_place) return run;
        if (run.empty()) return run;
        copy.resize(run.size());
        trainer_.copy_out(std::as_bytes(run), std::as_writable_bytes(std::span(copy)).data());
        return copy;
    }

    Trainer& trainer_;
    std::vector<master> master_copy_;
    std::vector<moment> first_copy_, second_copy_;
    std::vector<float> first_scales_copy_, second_scales_copy_;
    std::span<master> masters_;
    std::span<moment> first_, second_;
    std::span<float> first_scales_, second_scales_;
};

template <configuration Phase>
void add_phase(description& all, const std::string& prefix) {
    const description configured = describe_run<Phase>();
    for (const auto& [key, value] : configured.items()) all.set(prefix + key, value);
}

/// The configurations of a trainer's run: "context" of the only one, "phases.1.context" of the second of several.
template <class Trainer>
struct run_of {
    static void add_to(description& all) { add_phase<typename Trainer::first_phase>(all, ""); }
};
template <class... Phases, class Backend>
struct run_of<trainer<phases<Phases...>, Backend>> {
    static void add_to(description& all) {
        index i = 0;
        (add_phase<Phases>(all, "phases." + std::to_string(i++) + "."), ...);
    }
};

/// The caller's lines, and what the trainer knows of the run.
template <class Trainer>
[[nodiscard]] description whole_run(Trainer& trainer, const description& run) {
    description all = run;
    all.set("backend", Trainer::backend::name);
    const adamw optimizer = trainer.optimizer();
    all.set("optimizer", "adamw").set("optimizer.beta1", optimizer.beta1).set("optimizer.beta2", optimizer.beta2);
    all.set("optimizer.epsilon", optimizer.epsilon).set("optimizer.weight_decay", optimizer.weight_decay);
    all.set("optimizer.decay_embeddings", optimizer.decay_embeddings).set("optimizer.decay_vectors", optimizer.decay_vectors);
    all.set("clip.limit", static_cast<clip_by_global_norm>(trainer.clip()).limit);
    run_of<Trainer>::add_to(all);
    return all;
}

/// A count of the file's state, which is never negative.
[[nodiscard]] inline index count_in(const snapshot_reader& file, std::string_view key) {
    const index value = file.get<index>(key);
    expects<bad_snapshot>(value >= 0, [&] {
        return file.file().path() + ": state." + std::string(key) + ": expected a count, came " + std::to_string(value);
    });
    return value;
}

[[nodiscard]] inline run_state read_run_state(const snapshot_reader& file) {
    run_state state{.seed = file.get<std::uint64_t>("seed"),
                    .steps = count_in(file, "steps"),
                    .updates = count_in(file, "updates"),
                    .tokens = count_in(file, "tokens"),
                    .scale = {file.get<double>("loss_scale"), count_in(file, "loss_scale.good_steps"), file.get<bool>("loss_scale.dynamic")}};
    expects<bad_snapshot>(state.updates <= state.steps && std::isfinite(state.scale.value) && state.scale.value > 0, [&] {
        return file.file().path() + ": expected at most as many updates as steps and a loss scale above 0, came " +
               std::to_string(state.updates) + " updates in " + std::to_string(state.steps) + " steps at scale " + number_text(state.scale.value);
    });
    return state;
}

[[nodiscard]] inline data_state read_data_state(const snapshot_reader& file) {
    return {.seed = file.get<std::uint64_t>("data.seed"), .epoch = count_in(file, "data.epoch"), .batch = count_in(file, "data.batch"),
            .corpus = file.get<std::uint64_t>("data.corpus"), .budget = count_in(file, "data.budget"), .context = count_in(file, "data.context")};
}

}  // namespace detail

template <configuration Config>
description describe_model() {
    constexpr decoder_shape shape = Config::shape;
    description lines;
    lines.set("layers", shape.layers).set("width", shape.width).set("heads", shape.heads).set("key_value_heads", shape.grouped_heads());
    lines.set("head_width", shape.head()).set("hidden", shape.hidden).set("vocabulary", shape.vocabulary);
    // Elsewhere a context is as long as memory allows, and may change from phase to phase.
    if constexpr (shape.positions == position_kind::learned) lines.set("context", shape.context);
    lines.set("norm", detail::name_of(shape.norm)).set("mlp", detail::name_of(shape.mlp)).set("positions", detail::name_of(shape.positions));
    if constexpr (shape.streams() == 2) lines.set("residual", "two_streams");  // the same parameters mean another model
    lines.set("bias", shape.bias).set("tied", shape.tied).set("qk_norm", shape.qk_norm).set("sink", shape.sink);
    lines.set("soft_cap", shape.soft_cap);
    if constexpr (shape.positions == position_kind::rotary) lines.set("rotary_base", shape.rotary_base);
    lines.set("norm_epsilon", shape.norm_epsilon).set("precision", model_of_config<Config>::precision::name);
    // Only where a configuration says how, so that what was saved before it could say so is not another model's.
    using precision = typename model_of_config<Config>::precision;
    if constexpr (!update_of<Config>::template usual<precision>) {
        lines.set("moments", update_of<Config>::moments_name).set("masters", update_of<Config>::template has_master<precision>);
    }
    return lines.set("parameters", parameter_layout<model_of_config<Config>>::count);
}

template <configuration Config>
description describe_run() {
    constexpr decoder_shape shape = Config::shape;
    description lines;
    if constexpr (shape.positions != position_kind::learned) lines.set("context", shape.context);
    if constexpr (requires { batching_of<Config>::fills; }) lines.set("batch", detail::name_of(batching_of<Config>::fills));
    lines.set("batch.budget", index{Config::batch.budget}).set("batch.micro_batches", index{Config::batch.micro_batches});
    lines.set("batch.long_documents", detail::name_of(Config::batch.when_long));
    lines.set("dropout", shape.dropout).set("attention_dropout", shape.attention_dropout).set("stochastic_depth", shape.stochastic_depth);
    lines.set("label_smoothing", shape.label_smoothing).set("loss_chunk", shape.loss_chunk);
    if constexpr (shape.token_chunk > 0) lines.set("token_chunk", shape.token_chunk);
    if constexpr (shape.head_group > 0) lines.set("head_group", shape.head_group);
    using stack_type = attention_of<Config>;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (lines.set("attention." + std::to_string(I), detail::pattern_fingerprint<pattern_at<stack_type, static_cast<index>(I)>>()), ...);
    }(std::make_index_sequence<static_cast<std::size_t>(pattern_count<stack_type>)>{});
    if constexpr (update_of<Config>::in_bf16) lines.set("gradients", "bf16");
    if constexpr (update_of<Config>::in_buckets) lines.set("gradients", "by_bucket");
    return lines.set("checkpoint", checkpoint_of<Config>::name);
}

template <saved_trainer Trainer>
bytes save_snapshot(const std::string& path, Trainer& trainer, const data_state& data, const description& run) {
    snapshot_writer file(describe_model<typename Trainer::first_phase>(), detail::whole_run(trainer, run));
    const run_state& state = trainer.state();
    expects<run_stopped>(trainer.stopped().empty(), [&] { return trainer.stopped(); });
    file.set("seed", state.seed).set("steps", state.steps).set("updates", state.updates).set("tokens", state.tokens);
    file.set("loss_scale", state.scale.value).set("loss_scale.good_steps", state.scale.good_steps);
    file.set("loss_scale.dynamic", state.scale.dynamic);
    file.set("data.seed", data.seed).set("data.epoch", data.epoch).set("data.batch", data.batch).set("data.corpus", data.corpus);
    file.set("data.budget", data.budget).set("data.context", data.context);
    if (const std::string choices = trainer.choices(); !choices.empty()) file.set("choices", choices);
    detail::saved_runs<Trainer> runs(trainer);
    runs.for_each([&](const std::string& name, const std::vector<index>& shape, auto elements) {
        using element = typename decltype(elements)::value_type;
        file.add<element>(name, shape, std::span<const element>(elements));
    });
    return file.save(path);
}

template <saved_trainer Trainer>
restored_run load_snapshot(const std::string& path, Trainer& trainer, const description& run) {
    const snapshot_reader file(path);  // the whole of it is read and summed here
    const description model = describe_model<typename Trainer::first_phase>();
    const bool as_it_is = file.model() == model;
    if (!as_it_is && detail::without_storage(file.model()) != detail::without_storage(model)) file.require_model(model);
    const run_state state = detail::read_run_state(file);
    restored_run restored{detail::read_data_state(file), differences(file.model(), model, "model")};
    const auto differ = file.run_differences(detail::whole_run(trainer, run));
    restored.differences.insert(restored.differences.end(), differ.begin(), differ.end());
    detail::saved_runs<Trainer> runs(trainer);
    if (as_it_is) {
        std::size_t expected = 0;
        runs.for_each([&](const std::string& name, const std::vector<index>& shape, auto elements) {
            file.file().require(name, dtype_of<typename decltype(elements)::value_type>, shape);
            ++expected;
        });
        detail::expect_tensors(file, expected);
        runs.for_each([&](const std::string& name, const std::vector<index>& shape, auto elements) {
            using element = typename decltype(elements)::value_type;
            file.read<element>(name, shape, elements);
        });
    } else {
        const auto parameters = detail::converted_parameters<typename Trainer::model, typename Trainer::store_type::layout_type>(detail::shape_of);
        detail::check_convertible(file, parameters);
        runs.convert(file, parameters);
    }
    runs.put_back();
    trainer.state() = state;
    if (file.has("choices")) {
        if (const std::string sentence = trainer.reuse(file.text("choices")); !sentence.empty()) restored.differences.push_back(sentence);
    }
    return restored;
}

}  // namespace longspan
