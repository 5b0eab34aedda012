// SPDX-License-Identifier: Apache-2.0
//
// A run, saved and gone on with as if it had never stopped: masters and both moments of every parameter, counters, seed, loss
// scale, and the place in the data. The file is safetensors, so its tensors open in any framework:
//
//     "blocks.0.mlp.in.weight", "first_moment.blocks.0.mlp.in.weight", "second_moment.blocks.0.mlp.in.weight", ...
//
//     ls::save_snapshot("run.safetensors", trainer, loader.state(), run);
//     auto restored = ls::load_snapshot("run.safetensors", trainer, run);   // then .resume = restored.data for the loader
//
// Two descriptions go with it. The *model* must be the same, or the load is refused with the first line that differs. The *run*
// (what the caller says, optimizer, clip, context, batch, dropout, attention) may differ, and each difference comes back as a line.
//
// What config.update stores in two bytes or one is saved as it is stored; of moments in eight bits also the scales of the blocks that a
// parameter lies in, "first_scale.blocks.0.mlp.in.weight", .... In the same formats a run goes on to the bit. A snapshot of other formats is
// converted as it is loaded, and the lines of the model that differ ("moments", "masters") come back with those of the run: what becomes
// narrower is rounded once to the nearest, masters are made of weights where they lack, and rounded to weights where none are wanted.
//
// Bytes of the file: parameters · (size of a master + 2 · size of a moment), 12 for floats; the padding between tensors is zero
// and stays out. Memory: 1 MiB besides the header; for a store in a device's memory also a copy of it on the host. A run saved
// from one backend goes on in another. Formats: train/safetensors.hpp, train/snapshot_file.hpp.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include <longspan/batch/loader.hpp>
#include <longspan/train/snapshot_file.hpp>
#include <longspan/train/trainer.hpp>

namespace longspan {

/// A trainer whose run can be saved: a store of named parameters, in whichever memory its runtime reaches, and the state of the run.
template <class T>
concept saved_trainer = requires(T& trainer) {
    typename T::model;
    typename T::first_phase;
    { trainer.store() } -> std::same_as<typename T::store_type&>;
    { trainer.state() } -> std::same_as<run_state&>;
    { trainer.optimizer() } -> std::convertible_to<adamw>;
    { trainer.clip() } -> std::convertible_to<clip_by_global_norm>;
    trainer.refresh_weights();
    { trainer.stopped() } -> std::convertible_to<std::string>;
};

/// Everything that shapes the parameters or what the model computes of them, as lines: "width=256", ..., "precision=float",
/// "parameters=1234567". Two configurations with equal lines can take each other's parameters.
template <configuration Config>
[[nodiscard]] description describe_model();

/// What a configuration says beyond the model: context, batch, regularisation, checkpointing, and a fingerprint of each
/// layer's attention pattern.
template <configuration Config>
[[nodiscard]] description describe_run();

/// What a load brings back besides what it put into the trainer.
struct restored_run {
    data_state data;                       ///< loader_options::resume
    std::vector<std::string> differences;  ///< "run: clip.limit was 1, is 0.5", "model: moments was eight_bit, is bf16"; empty for the same run
};

/// Writes the file in full or not at all, and says how many bytes it has. To the lines of `run` come those of the optimizer
/// ("optimizer.beta1"), of clipping, and of describe_run, under "phases.<i>." where there are several; a key twice throws
/// bad_argument. Throws write_failed; what had that name before then still has it.
template <saved_trainer Trainer>
bytes save_snapshot(const std::string& path, Trainer& trainer, const data_state& data, const description& run = {});

/// Puts a saved run into the trainer. Everything is checked before anything changes: throws bad_snapshot for a file that is
/// damaged, of another model, or has other tensors than the model. Only a disk that fails between the check and the reading, in
/// the same call, leaves a part of the file in the trainer; it throws bad_snapshot too.
template <saved_trainer Trainer>
restored_run load_snapshot(const std::string& path, Trainer& trainer, const description& run = {});

}  // namespace longspan

#include <longspan/train/detail/snapshot.hpp>
