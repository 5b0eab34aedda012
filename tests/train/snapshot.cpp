// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include <longspan/data/text_documents.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/stack.hpp>
#include <longspan/train/snapshot.hpp>

#include "scratch.hpp"

namespace ls = longspan;

namespace {

struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 12, .heads = 2, .hidden = 20, .vocabulary = 256, .context = 32, .dropout = 0.1};
    static constexpr auto attention = ls::stack<ls::causal & ls::window<8>, ls::causal>;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<64>;
};
struct wider : config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 16, .heads = 2, .hidden = 20, .vocabulary = 256, .context = 32};
};
struct capped : config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 12, .heads = 2, .hidden = 20, .vocabulary = 256, .context = 32, .soft_cap = 30};
};
struct paired : config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 12, .heads = 2, .hidden = 20, .vocabulary = 256, .context = 32,
                                                    .residual = ls::residual_kind::two_streams};
};
struct narrow : config {
    static constexpr auto precision = ls::mixed<ls::bf16>;
};
struct other_run : config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 12, .heads = 2, .hidden = 20, .vocabulary = 256, .context = 64, .dropout = 0.1};
    static constexpr auto attention = ls::stack<ls::causal & ls::window<9>, ls::causal>;
};

struct longest : other_run {
    static constexpr auto batch = ls::packed<128>;
};

using trainer = ls::trainer<config>;

ls::text_documents text() {
    std::string verse;
    for (int i = 0; i < 60; ++i) verse += "line " + std::to_string(i * 7919 % 101) + " of a text; ";
    return ls::text_documents({verse, "another, shorter document", verse.substr(300)});
}

template <class T>
bool same_bits(std::span<T> a, std::span<T> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
template <class Trainer>
bool same(Trainer& a, Trainer& b) {
    return same_bits(a.store().weights(), b.store().weights()) && same_bits(a.store().masters(), b.store().masters()) &&
           same_bits(a.store().first_moments(), b.store().first_moments()) && same_bits(a.store().second_moments(), b.store().second_moments()) &&
           a.state().seed == b.state().seed && a.state().steps == b.state().steps && a.state().updates == b.state().updates &&
           a.state().tokens == b.state().tokens && a.state().scale == b.state().scale;
}

template <class Config>
void resumes_to_the_bit() {
    const scratch::folder here("run");
    const std::string path = here / "run.safetensors";
    ls::trainer<Config> straight{ls::seed{7}};
    auto all = ls::batches<Config>(text(), {.seed = 3, .steps = 6});
    for (int i = 0; i < 3; ++i) straight.step(all.next());
    const ls::data_state place = all.state();
    const ls::bytes size = ls::save_snapshot(path, straight, place);
    CHECK(size == static_cast<ls::bytes>(std::filesystem::file_size(path)));
    std::vector<double> losses;
    for (int i = 0; i < 3; ++i) losses.push_back(straight.step(all.next()).loss);

    ls::trainer<Config> resumed{ls::seed{1234}};  // its seed must not matter
    const auto restored = ls::load_snapshot(path, resumed);
    CHECK(restored.differences.empty());
    CHECK(restored.data == place);
    auto rest = ls::batches<Config>(text(), {.steps = 3, .resume = restored.data});
    for (int i = 0; i < 3; ++i) CHECK(resumed.step(rest.next()).loss == losses[static_cast<std::size_t>(i)]);
    CHECK(same(straight, resumed));
}

}  // namespace

TEST_CASE("snapshot: save, stop, load, go on: equal to the bit to the run that never stopped") {
    resumes_to_the_bit<narrow>();  // where masters, weights and moments are three things
}

TEST_CASE("snapshot: the tensors have the parameters' names and shapes, without padding") {
    const scratch::folder here("run");
    trainer t{ls::seed{1}};
    ls::save_snapshot(here / "run", t, {});
    const ls::safetensors_reader file(here / "run");
    CHECK(file.tensors().size() % 3 == 0);
    CHECK(file.file_size() - file.data_begin() == 3 * 4 * ls::parameter_count<config>);
    REQUIRE(file.find("embedding.weight"));
    CHECK(file.find("embedding.weight")->shape == std::vector<ls::index>{256, 12});
    ls::parameter_layout<trainer::model>::for_each([&](const std::string& name, const ls::parameter& p, ls::index) {
        for (const std::string& each : {name, "first_moment." + name, "second_moment." + name}) {
            CAPTURE(each);
            REQUIRE(file.find(each));
            CHECK(file.find(each)->size() == 4 * p.size());
            CHECK(file.find(each)->shape.size() == (p.decays || p.rows > 1 ? 2 : 1));
        }
    });
}

TEST_CASE("snapshot: another model is refused by the first line that differs, and the trainer stays as it was") {
    const scratch::folder here("run");
    const std::string path = here / "run", other = path + ": a snapshot of another model: model: ";
    trainer t{ls::seed{1}};
    ls::save_snapshot(path, t, {});
    ls::trainer<narrow> mine{ls::seed{5}}, untouched{ls::seed{5}};
    CHECK(scratch::sentence_of<ls::bad_snapshot>([&] { ls::load_snapshot(path, mine); }) == other + "precision was fp32, is mixed<bf16>");
    CHECK(same(mine, untouched));

    const ls::snapshot_reader file(path);
    const auto refused = [&]<class Config>(Config) {
        return scratch::sentence_of<ls::bad_snapshot>([&] { file.require_model(ls::describe_model<Config>()); });
    };
    CHECK(refused(wider{}) == other + "width was 12, is 16 (and 2 more)");
    CHECK(refused(capped{}) == other + "soft_cap was 0, is 30");
    CHECK(refused(paired{}) == other + "residual was absent, is two_streams");  // of the same parameters
    CHECK(refused(other_run{}) == "");
}

TEST_CASE("snapshot: a run that differs is loaded, and says how") {
    const scratch::folder here("run");
    trainer t{ls::seed{1}};
    ls::description said;
    said.set("corpus", "a").set("rate", 1e-3);
    ls::save_snapshot(here / "run", t, {}, said);
    ls::trainer<other_run> mine{ls::seed{1}, {.beta2 = 0.99}, {0.5}};
    ls::description now;
    now.set("corpus", "b").set("rate", 1e-3);
    const auto lines = ls::load_snapshot(here / "run", mine, now).differences;
    REQUIRE(lines.size() == 5);
    CHECK(lines[0] == "run: corpus was a, is b");
    CHECK(lines[1] == "run: optimizer.beta2 was 0.95, is 0.99");
    CHECK(lines[2] == "run: clip.limit was 1, is 0.5");
    CHECK(lines[3] == "run: context was 32, is 64");
    CHECK(lines[4].starts_with("run: attention.0 was "));
}

TEST_CASE("snapshot: each phase of a run is described") {
    const scratch::folder here("run");
    ls::trainer<ls::phases<config, other_run>> t{ls::seed{1}};
    ls::save_snapshot(here / "run", t, {});
    const ls::snapshot_reader file(here / "run");
    REQUIRE(file.run().find("phases.1.context"));
    CHECK(*file.run().find("phases.0.context") == "32");
    CHECK(*file.run().find("phases.1.context") == "64");
    CHECK_FALSE(file.run().find("context"));
    CHECK(ls::load_snapshot(here / "run", t).differences.empty());
    ls::trainer<ls::phases<config, longest>> other{ls::seed{1}};
    CHECK(ls::load_snapshot(here / "run", other).differences == std::vector<std::string>{"run: phases.1.batch.budget was 64, is 128"});
}

TEST_CASE("snapshot: a description that uses the trainer's own keys is refused") {
    trainer t{ls::seed{1}};
    ls::description said;
    said.set("clip.limit", 3);
    CHECK_THROWS_AS(ls::save_snapshot("nowhere", t, {}, said), ls::bad_argument);
}

TEST_CASE("snapshot: whatever is wrong with the file, the trainer stays as it was") {
    const scratch::folder here("run");
    const std::string path = here / "run";
    trainer saved{ls::seed{1}}, t{ls::seed{2}}, untouched{ls::seed{2}};
    ls::save_snapshot(path, saved, {});
    const std::string whole = scratch::contents(path);
    for (std::size_t i = 1; i < 40; ++i) {
        std::string damaged = whole;
        damaged[i * (whole.size() / 40)] ^= 1;
        scratch::put(path, i % 2 == 0 ? damaged : whole.substr(0, i * (whole.size() / 40)));
        CHECK_THROWS_AS(ls::load_snapshot(path, t), ls::bad_snapshot);
    }
    CHECK_THROWS_AS(ls::load_snapshot(here / "nothing", t), ls::bad_snapshot);
    CHECK(same(t, untouched));
}

TEST_CASE("snapshot: tensors that lack, are of another shape or are too many, and state that cannot be, are refused") {
    const scratch::folder here("run");
    const std::string path = here / "run";
    trainer t{ls::seed{2}}, untouched{ls::seed{2}};
    std::vector<float> zeros(static_cast<std::size_t>(trainer::model::shape.vocabulary * 64));
    enum class wrong { nothing, missing, shape, type, extra, updates, scale, epoch, state };
    const auto refusal = [&](wrong what) {
        ls::snapshot_writer file(ls::describe_model<config>(), {});
        file.set("seed", 9).set("steps", 4).set("updates", what == wrong::updates ? 5 : 4).set("tokens", 100);
        file.set("loss_scale", what == wrong::scale ? 0.0 : 1.0).set("loss_scale.good_steps", 0).set("loss_scale.dynamic", false);
        file.set("data.seed", 0).set("data.epoch", what == wrong::epoch ? -1 : 0).set("data.batch", 0).set("data.corpus", 0).set("data.budget", 64);
        if (what != wrong::state) file.set("data.context", 32);
        bool first = true;
        ls::detail::saved_runs(t).for_each([&](const std::string& name, std::vector<ls::index> shape, auto elements) {
            const auto data = std::as_bytes(std::span(zeros)).first(elements.size_bytes());
            if (what == wrong::missing && first) {
            } else if (what == wrong::shape && first) {
                file.add(name, ls::dtype::F32, {shape[1], shape[0]}, data);
            } else if (what == wrong::type && first) {
                file.add(name, ls::dtype::I32, shape, data);
            } else {
                file.add(name, ls::dtype::F32, shape, data);
            }
            first = false;
        });
        if (what == wrong::extra) file.add<float>("extra", {0}, {});
        file.save(path);
        return scratch::sentence_of<ls::bad_snapshot>([&] { ls::load_snapshot(path, t); });
    };
    CHECK(refusal(wrong::missing) == path + ": expected the tensor \"embedding.weight\", which is not there");
    CHECK(refusal(wrong::shape) == path + ": tensor \"embedding.weight\": expected F32 [256, 12], came F32 [12, 256]");
    CHECK(refusal(wrong::type) == path + ": tensor \"embedding.weight\": expected F32 [256, 12], came I32 [256, 12]");
    CHECK(refusal(wrong::extra).starts_with(path + ": expected "));
    CHECK(refusal(wrong::updates).find("came 5 updates in 4 steps at scale 1") != std::string::npos);
    CHECK(refusal(wrong::scale).find("at scale 0") != std::string::npos);
    CHECK(refusal(wrong::epoch) == path + ": state.data.epoch: expected a count, came -1");
    CHECK(refusal(wrong::state) == path + ": a snapshot has state.data.context in its metadata, this one does not");
    CHECK(same(t, untouched));
    CHECK(refusal(wrong::nothing) == "");
    CHECK(t.state().steps == 4);
    CHECK(t.state().seed == 9);
    CHECK(t.store().masters()[0] == 0);
}

TEST_CASE("snapshot: a full disk leaves the old snapshot") {
    const scratch::folder here("run");
    const std::string path = here / "run";
    trainer t{ls::seed{1}};
    ls::save_snapshot(path, t, {});
    const std::string whole = scratch::contents(path);
    t.state().steps = 9;
    {
        const scratch::file_size_limit limit(10'000);
        CHECK_THROWS_AS(ls::save_snapshot(path, t, {}), ls::write_failed);
    }
    CHECK(scratch::contents(path) == whole);
    CHECK(here.entries() == 1);
}

TEST_CASE("snapshot: patterns that see the same have the same fingerprint") {
    const auto print = [](auto pattern) { return ls::detail::pattern_fingerprint<decltype(pattern)>(); };
    CHECK(print(ls::causal & ls::window<64>) == print(ls::window<64> & ls::causal));
    CHECK(print(ls::causal & ls::window<64>) != print(ls::causal & ls::window<65>));
    CHECK(print(ls::causal) != print(ls::full));
    CHECK(print(ls::causal) == "c21abd41c71d6293");
}
