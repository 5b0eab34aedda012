// SPDX-License-Identifier: Apache-2.0
//
// The main job on an NVIDIA GPU: the program of 01_train_text with another backend, a larger model and contexts of 65,536 bytes.
//
//     04_train_text_on_gpu [FILES AND FOLDERS] [--steps 400 --long-steps 100] [--out FOLDER] [--resume FOLDER]
#include "04_train_text_on_gpu.hpp"

#include "train_text.hpp"

struct job {
    using backend = longspan::cuda::device;
    using short_phase = gpu_job::short_phase;
    using long_phase = gpu_job::long_phase;
    using sampling_phase = gpu_job::sampling_phase;
    using trainer = gpu_job::trainer;
    static constexpr longspan::index steps = 400, long_steps = 100;
};

int main(int count, char** words) { return train_text::run_as<job>("04_train_text_on_gpu", count, words); }
