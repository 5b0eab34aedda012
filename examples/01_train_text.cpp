// SPDX-License-Identifier: Apache-2.0
//
// The main job: a byte-level decoder of 2.3 million parameters learns to write like the files it is given (by default the C++
// headers of Eigen), in two phases: contexts of 2,048 bytes, then of 8,192. It ends with what it knows of files that it has never
// seen, beside context models fitted on the same files and gzip.
//
//     01_train_text [FILES AND FOLDERS] [--steps 1300 --long-steps 60] [--out FOLDER] [--resume FOLDER]
//
// Ctrl-C finishes the step, saves, and exits with 0; --resume goes on as if nothing had happened, to the bit.
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
#include <longspan/train/snapshot.hpp>
#include <longspan/train/status_line.hpp>

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
using short_phase = config<2048>;
using long_phase = config<8192>;
using sampling_phase = config<512>;  // forward only: what continues a text
using trainer = ls::trainer<ls::phases<short_phase, long_phase, sampling_phase>>;

static_assert(ls::plan<long_phase, ls::host::cpu>.peak() < 512 * ls::MiB);
static_assert(ls::parameter_count<short_phase> > 2'000'000 && ls::parameter_count<short_phase> < 4'000'000);

struct options {
    std::vector<std::string> corpus{"/usr/include/eigen3"};
    ls::index steps = 1300, long_steps = 60;
    std::uint64_t seed = 42;
    double rate = 1e-3;
    ls::index save_every = 200, sample = 400;
    std::string out, resume, prompt = "template<typename Scalar>\n";
};

/// The run while it goes on.
struct run {
    const options& chosen;
    const ls::text_files& train;
    trainer& model;
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
template <class Phase>
bool train_phase(run& r, const char* name, ls::index end, std::uint64_t seed) {
    const auto rate = ls::warm_up{ls::in_tokens(40 * short_phase::batch.budget)}.then(
        ls::cosine{.peak = r.chosen.rate, .over = ls::in_tokens(static_cast<ls::index>(r.tokens_until(r.steps()))), .floor = r.chosen.rate / 50});
    ls::loader_options from{.seed = seed};
    if (r.place.budget == Phase::batch.budget) from.resume = r.place;  // a snapshot of this phase
    auto batches = ls::batches<Phase>(r.train, from);
    r.status.say(std::string(name) + " phase, an epoch: " + ls::describe(batches.count_epoch(batches.state().epoch)));
    double speed = 0, before = ls::status_line::now();
    while (r.model.state().steps < end) {
        const auto& batch = batches.next_step();
        const ls::run_state& at = r.model.state();
        const auto report = r.model.step<Phase>(batch, rate.learning_rate(at.updates, at.tokens));
        r.place = batches.state();
        const double now = ls::status_line::now(), here = static_cast<double>(report.tokens) / (now - before);
        speed = speed == 0 ? here : 0.95 * speed + 0.05 * here;
        before = now;
        r.log.line({{"step", report.step}, {"phase", name}, {"tokens", at.tokens}, {"targets", report.targets}, {"loss", report.loss},
                    {"bits_per_byte", report.bits_per_token()}, {"gradient_norm", report.gradient_norm},
                    {"learning_rate", report.learning_rate}, {"memory", report.high_water}, {"refused", report.refused}});
        r.status.update({.phase = name, .step = report.step, .steps = r.steps(), .loss = report.loss, .bits_per_byte = report.bits_per_token(),
                         .tokens_per_second = speed, .planned = ls::plan<Phase, ls::host::cpu>.peak(), .measured = report.high_water,
                         .seconds_left = (r.tokens_until(r.steps()) - r.tokens_until(report.step)) / speed});
        if (!report.refused.empty()) r.status.say("step " + std::to_string(report.step) + " changed nothing: " + report.refused);
        if (report.step % r.chosen.save_every == 0) r.save();
        if (r.interrupt.requested()) return false;
    }
    r.save();
    return true;
}

/// Bits per byte of the held-out files at a context of 8,192.
double held_out_bits(trainer& model, const ls::text_files& files) {
    ls::batch_loader<ls::batching_of<long_phase>, ls::text_files> batches(files, long_phase::shape.context, {.epochs = 1});
    double loss = 0;
    while (!batches.done()) loss += model.evaluate<long_phase>(batches.next());
    return loss / static_cast<double>(batches.counts().targets) / std::log(2.0);
}

/// Bits per byte of `gzip -9` over all files as one stream.
double gzip_bits(const ls::text_files& files) {
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
std::filesystem::path folder_of(const options& chosen) {
    if (!chosen.resume.empty()) return chosen.resume;
    std::filesystem::path folder = chosen.out;
    for (int n = 1; chosen.out.empty() && (n == 1 || std::filesystem::exists(folder)); ++n) folder = "runs/text-" + std::to_string(n);
    if (std::filesystem::exists(folder / "snapshot.safetensors")) {
        throw ls::bad_argument(folder.string() + " holds a run already; go on with --resume " + folder.string() + ", or name another --out");
    }
    std::filesystem::create_directories(folder);
    return folder;
}

int train(const options& chosen) {
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
    run r{.chosen = chosen, .train = train_files, .model = model,
          .log = chosen.resume.empty() ? ls::logbook(log_path) : ls::logbook::resume(log_path, model.state().steps),
          .snapshot = snapshot, .description = description, .place = restored.data};
    std::cout << ls::parameter_count<short_phase> << " parameters; one step of " << long_phase::batch.budget << " tokens takes "
              << trainer::memory_needed / ls::MiB << " MiB; run: " << folder.string() << std::endl;

    const double began = ls::status_line::now();
    const bool done = train_phase<short_phase>(r, "short", chosen.steps, chosen.seed) && train_phase<long_phase>(r, "long", r.steps(), chosen.seed + 1);
    const double seconds = ls::status_line::now() - began;
    r.status.finish();
    if (!done) {
        r.save();
        std::cout << "stopped and saved after step " << r.model.state().steps << "; go on with --resume " << folder.string() << std::endl;
        return 0;
    }

    std::cout << "\nwhere the bytes of a step go (measured above: the same, to the byte)\n" << ls::describe(ls::plan<long_phase, ls::host::cpu>)
              << "\nheld-out bits per byte, at a context of " << long_phase::shape.context << " (lower is better):\n";
    ls::context_model counted(3);
    counted.fit(train_files);
    const std::vector<double> orders = counted.bits_per_byte(held_out);
    for (std::size_t n = 0; n < orders.size(); ++n) std::printf("  %-28s %6.3f\n", ("context model of order " + std::to_string(n)).c_str(), orders[n]);
    std::printf("  %-28s %6.3f\n", "gzip -9", gzip_bits(held_out));
    const double bits = held_out_bits(r.model, held_out);
    std::printf("  %-28s %6.3f   after %lld updates in %s of training\n", "this model", bits, static_cast<long long>(r.model.state().updates),
                ls::describe_seconds(seconds).c_str());
    r.log.line({{"held_out_bits_per_byte", bits}, {"updates", r.model.state().updates}, {"order_2", orders[2]}, {"order_3", orders[3]}});

    std::cout << "\nIt continues:\n" << chosen.prompt << std::flush;
    const auto drawn = ls::continue_tokens<sampling_phase>(r.model, ls::byte_tokens::encode(chosen.prompt), {.count = chosen.sample, .seed = chosen.seed});
    std::cout << ls::byte_tokens::decode(drawn) << std::endl;
    return 0;
}

int main(int count, char** words) {
    options chosen;
    CLI::App app{"Trains a byte-level decoder on text files and says what it has learnt."};
    app.add_option("corpus", chosen.corpus, "files and folders")->capture_default_str();
    app.add_option("--steps", chosen.steps, "updates of 2,048 tokens")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--long-steps", chosen.long_steps, "updates of 8,192 tokens, after those")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--rate", chosen.rate, "peak learning rate")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--seed", chosen.seed, "of parameters, order and split")->capture_default_str();
    app.add_option("--save-every", chosen.save_every, "steps between snapshots")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--sample", chosen.sample, "bytes that the finished model writes")->check(CLI::NonNegativeNumber)->capture_default_str();
    app.add_option("--prompt", chosen.prompt, "what the finished model continues");
    auto* out = app.add_option("--out", chosen.out, "folder of a new run (default: runs/text-<n>)");
    app.add_option("--resume", chosen.resume, "folder of a run to go on with")->excludes(out);
    CLI11_PARSE(app, count, words);
    try {
        return train(chosen);
    } catch (const ls::error& sentence) {
        std::cerr << "01_train_text: " << sentence.what() << '\n';
    } catch (const std::exception& other) {
        std::cerr << "01_train_text: " << other.what() << '\n';
    }
    return 1;
}
