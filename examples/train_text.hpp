// SPDX-License-Identifier: Apache-2.0
//
// The main job on any backend: a byte-level decoder learns to write like the files it is given, first with short contexts, then
// with long ones. It ends with what it knows of files that it has never seen, beside context models fitted on the same files and
// gzip. A Job names the backend, the phases and what they take unless the command line says otherwise; 01_train_text.cpp and
// 04_train_text_on_gpu.hpp are two.
//
// Ctrl-C finishes the step, saves, and exits with 0; --resume goes on as if nothing had happened, to the bit.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <zlib.h>

#include <longspan/data/split.hpp>
#include <longspan/data/text_files.hpp>
#include <longspan/eval/context_model.hpp>
#include <longspan/eval/sample.hpp>
#include <longspan/longspan.hpp>
#include <longspan/train/interrupt.hpp>
#include <longspan/train/logbook.hpp>
#include <longspan/train/memory_log.hpp>
#include <longspan/train/snapshot.hpp>
#include <longspan/train/status_line.hpp>

namespace train_text {

namespace ls = longspan;

struct options {
    std::vector<std::string> corpus{"/usr/include/eigen3"};
    ls::index steps = 0, long_steps = 0;
    std::uint64_t seed = 42;
    double rate = 1e-3;
    ls::index save_every = 200, sample = 400;
    std::string out, resume, prompt = "template<typename Scalar>\n";
};

/// The run while it goes on.
template <class Job>
struct run {
    using short_phase = typename Job::short_phase;
    using long_phase = typename Job::long_phase;
    const options& chosen;
    const ls::text_files& train;
    typename Job::trainer& model;
    ls::logbook log;
    std::string snapshot;
    ls::description description;
    ls::data_state place;
    ls::status_line status{stdout};
    ls::interrupt interrupt{};

    [[nodiscard]] ls::index steps() const { return chosen.steps + chosen.long_steps; }
    /// Tokens that the steps until `step` take, as far as batches are full.
    [[nodiscard]] double tokens_until(ls::index step) const {
        const ls::index in_long = step > chosen.steps ? step - chosen.steps : 0;
        return static_cast<double>((step - in_long) * short_phase::batch.budget + in_long * long_phase::batch.budget);
    }
    void save() {
        log.sync();
        ls::save_snapshot(snapshot, model, place, description);
    }
};

/// Steps of one phase, up to step `end` of the run. False if somebody asked to stop.
template <class Job, class Phase>
bool train_phase(run<Job>& r, const char* name, ls::index end, std::uint64_t seed) {
    const auto rate = ls::warm_up{ls::in_tokens(40 * Job::short_phase::batch.budget)}.then(
        ls::cosine{.peak = r.chosen.rate, .over = ls::in_tokens(static_cast<ls::index>(r.tokens_until(r.steps()))), .floor = r.chosen.rate / 50});
    ls::loader_options from{.seed = seed};
    if (r.place.budget == Phase::batch.budget && r.place.context == Phase::shape.context) from.resume = r.place;  // a snapshot of this phase
    auto batches = ls::batches<Phase>(r.train, from);
    r.status.say(std::string(name) + " phase, an epoch: " + ls::describe(batches.count_epoch(batches.state().epoch)));
    double speed = 0, before = ls::status_line::now();
    while (r.model.state().steps < end) {
        const auto& batch = batches.next_step();
        const ls::run_state& at = r.model.state();
        const auto report = r.model.template step<Phase>(batch, rate.learning_rate(at.updates, at.tokens));
        r.place = batches.state();
        const double now = ls::status_line::now(), here = static_cast<double>(report.tokens) / (now - before);
        speed = speed == 0 ? here : 0.95 * speed + 0.05 * here;
        before = now;
        r.log.line({{"step", report.step}, {"phase", name}, {"tokens", at.tokens}, {"targets", report.targets}, {"loss", report.loss},
                    {"bits_per_byte", report.bits_per_token()}, {"gradient_norm", report.gradient_norm},
                    {"learning_rate", report.learning_rate}, {"refused", report.refused}},
                   ls::memory_fields<Phase, typename Job::backend>(report));
        r.status.update({.phase = name, .step = report.step, .steps = r.steps(), .loss = report.loss, .bits_per_byte = report.bits_per_token(),
                         .tokens_per_second = speed, .planned = ls::plan<Phase, typename Job::backend>.peak(), .measured = report.high_water,
                         .seconds_left = (r.tokens_until(r.steps()) - r.tokens_until(report.step)) / speed});
        if (!report.refused.empty()) r.status.say("step " + std::to_string(report.step) + " changed nothing: " + report.refused);
        if (report.step % r.chosen.save_every == 0) r.save();
        if (r.interrupt.requested()) return false;
    }
    r.save();
    return true;
}

/// Bits per byte of the held-out files at the long phase's context.
template <class Job>
double held_out_bits(typename Job::trainer& model, const ls::text_files& files) {
    using long_phase = typename Job::long_phase;
    ls::batch_loader<ls::batching_of<long_phase>, ls::text_files> batches(files, long_phase::shape.context, {.epochs = 1});
    double loss = 0;
    while (!batches.done()) loss += model.template evaluate<long_phase>(batches.next());
    return loss / static_cast<double>(batches.counts().targets) / std::log(2.0);
}

/// Bits per byte of `gzip -9` over all files as one stream.
inline double gzip_bits(const ls::text_files& files) {
    z_stream stream{};
    if (deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK) throw ls::error("zlib: deflateInit2 failed");
    std::vector<unsigned char> out(1 << 16);
    ls::index written = 0;
    for (ls::index i = 0; i <= files.count(); ++i) {
        std::stringstream text;
        if (i < files.count()) text << std::ifstream(files.path(i), std::ios::binary).rdbuf();
        std::string bytes = text.str();
        stream.next_in = reinterpret_cast<unsigned char*>(bytes.data());
        stream.avail_in = static_cast<unsigned>(bytes.size());
        do {
            stream.next_out = out.data();
            stream.avail_out = static_cast<unsigned>(out.size());
            deflate(&stream, i == files.count() ? Z_FINISH : Z_NO_FLUSH);
            written += static_cast<ls::index>(out.size() - stream.avail_out);
        } while (stream.avail_out == 0);
    }
    deflateEnd(&stream);
    return 8.0 * static_cast<double>(written) / static_cast<double>(ls::total_tokens(files));
}

/// The folder of a new run: the one asked for, or the first of runs/text-1, runs/text-2, … that is not there.
inline std::filesystem::path folder_of(const options& chosen) {
    if (!chosen.resume.empty()) return chosen.resume;
    std::filesystem::path folder = chosen.out;
    for (int n = 1; chosen.out.empty() && (n == 1 || std::filesystem::exists(folder)); ++n) folder = "runs/text-" + std::to_string(n);
    if (std::filesystem::exists(folder / "snapshot.safetensors")) {
        throw ls::bad_argument(folder.string() + " holds a run already; go on with --resume " + folder.string() + ", or name another --out");
    }
    std::filesystem::create_directories(folder);
    return folder;
}

template <class Job>
int train(const options& chosen) {
    using short_phase = typename Job::short_phase;
    using long_phase = typename Job::long_phase;
    using trainer = typename Job::trainer;
    const ls::text_files corpus(std::vector<std::filesystem::path>(chosen.corpus.begin(), chosen.corpus.end()));
    const auto [train_files, held_out] = ls::split(corpus, {.seed = chosen.seed});
    std::cout << "corpus: " << ls::describe(corpus.report()) << "; held out: " << held_out.count() << " files, "
              << ls::total_tokens(held_out) << " bytes (split by file, seed " << chosen.seed << ")\n";
    if (ls::total_tokens(train_files) < long_phase::shape.context) {
        throw ls::bad_corpus("the corpus has " + std::to_string(ls::total_tokens(train_files)) +
                             " bytes to train on, and one context alone takes " + std::to_string(long_phase::shape.context));
    }
    const std::filesystem::path folder = folder_of(chosen);
    const std::string log_path = (folder / "log.jsonl").string();
    const std::string snapshot = (folder / "snapshot.safetensors").string();
    ls::description description;
    description.set("steps", chosen.steps).set("long_steps", chosen.long_steps).set("learning_rate", chosen.rate).set("corpus", ls::fingerprint(train_files));
    trainer model(ls::seed{chosen.seed});
    ls::restored_run restored;
    if (!chosen.resume.empty()) restored = ls::load_snapshot(snapshot, model, description);
    for (const std::string& line : restored.differences) std::cout << line << '\n';
    run<Job> r{.chosen = chosen, .train = train_files, .model = model,
          .log = chosen.resume.empty() ? ls::logbook(log_path) : ls::logbook::resume(log_path, model.state().steps),
          .snapshot = snapshot, .description = description, .place = restored.data};
    std::cout << ls::parameter_count<short_phase> << " parameters; one step of " << long_phase::batch.budget << " tokens takes "
              << trainer::memory_needed / ls::MiB << " MiB; run: " << folder.string() << std::endl;

    const double began = ls::status_line::now();
    const bool done = train_phase<Job, short_phase>(r, "short", chosen.steps, chosen.seed) && train_phase<Job, long_phase>(r, "long", r.steps(), chosen.seed + 1);
    const double seconds = ls::status_line::now() - began;
    r.status.finish();
    if (!done) {
        r.save();
        std::cout << "stopped and saved after step " << r.model.state().steps << "; go on with --resume " << folder.string() << std::endl;
        return 0;
    }

    std::cout << "\nwhere the bytes of a step go (measured above: the same, to the byte)\n" << ls::describe(ls::plan<long_phase, typename Job::backend>)
              << "\nheld-out bits per byte, at a context of " << long_phase::shape.context << " (lower is better):\n";
    ls::context_model counted(3);
    counted.fit(train_files);
    const std::vector<double> orders = counted.bits_per_byte(held_out);
    for (std::size_t n = 0; n < orders.size(); ++n) std::printf("  %-28s %6.3f\n", ("context model of order " + std::to_string(n)).c_str(), orders[n]);
    std::printf("  %-28s %6.3f\n", "gzip -9", gzip_bits(held_out));
    const double bits = held_out_bits<Job>(r.model, held_out);
    std::printf("  %-28s %6.3f   after %lld updates in %s of training\n", "this model", bits, static_cast<long long>(r.model.state().updates),
                ls::describe_seconds(seconds).c_str());
    r.log.line({{"held_out_bits_per_byte", bits}, {"updates", r.model.state().updates}, {"order_2", orders[2]}, {"order_3", orders[3]}});

    std::cout << "\nIt continues:\n" << chosen.prompt << std::flush;
    const auto drawn = ls::continue_tokens<typename Job::sampling_phase>(r.model, ls::byte_tokens::encode(chosen.prompt), {.count = chosen.sample, .seed = chosen.seed});
    std::cout << ls::byte_tokens::decode(drawn) << std::endl;
    return 0;
}

/// The whole program, called `name`.
template <class Job>
int run_as(const char* name, int count, char** words) {
    options chosen;
    chosen.steps = Job::steps, chosen.long_steps = Job::long_steps;
    CLI::App app{"Trains a byte-level decoder on text files and says what it has learnt."};
    app.add_option("corpus", chosen.corpus, "files and folders")->capture_default_str();
    app.add_option("--steps", chosen.steps, "updates with short contexts")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--long-steps", chosen.long_steps, "updates with long contexts, after those")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--rate", chosen.rate, "peak learning rate")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--seed", chosen.seed, "of parameters, order and split")->capture_default_str();
    app.add_option("--save-every", chosen.save_every, "steps between snapshots")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--sample", chosen.sample, "bytes that the finished model writes")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--prompt", chosen.prompt, "what the finished model continues");
    auto* out = app.add_option("--out", chosen.out, "folder of a new run (default: runs/text-<n>)");
    app.add_option("--resume", chosen.resume, "folder of a run to go on with")->excludes(out);
    CLI11_PARSE(app, count, words);
    try {
        return train<Job>(chosen);
    } catch (const ls::error& sentence) {
        std::cerr << name << ": " << sentence.what() << '\n';
    } catch (const std::exception& other) {
        std::cerr << name << ": " << other.what() << '\n';
    }
    return 1;
}

}  // namespace train_text
