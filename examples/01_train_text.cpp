// SPDX-License-Identifier: Apache-2.0
//
// The main job: a byte-level decoder of 2.3 million parameters learns to write like the files it is given (by default the C++
// headers of Eigen), in two phases: contexts of 2,048 bytes, then of 8,192. It ends with what it knows of files that it has never
// seen, beside context models fitted on the same files and gzip. The loop is in train_text.hpp.
//
//     01_train_text [FILES AND FOLDERS] [--steps 1300 --long-steps 60] [--out FOLDER] [--resume FOLDER]
#include "train_text.hpp"

namespace ls = longspan;

/// What all phases share; they differ in the context, and in the budget that holds one.
template <ls::index Context>
struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 3, .width = 256, .heads = 4, .key_value_heads = 2, .hidden = 704,
                                                    .vocabulary = ls::byte_tokens::vocabulary, .context = Context};
    static constexpr auto attention = ls::causal & (ls::window<512> | ls::first<16>);
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<Context>;
};

struct job {
    using backend = ls::host::cpu;
    using short_phase = config<2048>;
    using long_phase = config<8192>;
    using sampling_phase = config<512>;  // forward only: what continues a text
    using trainer = ls::trainer<ls::phases<short_phase, long_phase, sampling_phase>>;
    static constexpr ls::index steps = 1300, long_steps = 60;
};

static_assert(ls::plan<job::long_phase, ls::host::cpu>.peak() < 512 * ls::MiB);
static_assert(ls::parameter_count<job::short_phase> > 2'000'000 && ls::parameter_count<job::short_phase> < 4'000'000);

int main(int count, char** words) { return train_text::run_as<job>("01_train_text", count, words); }
