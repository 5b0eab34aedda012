// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include <longspan/train/snapshot_file.hpp>

#include "scratch.hpp"

namespace ls = longspan;

namespace {

struct run {
    ls::description model, settings;
    std::vector<float> weight = std::vector<float>(600), first = weight, second = weight;
    std::vector<ls::bf16> narrow = std::vector<ls::bf16>(7, ls::bf16(0.3f));

    run() {
        model.set("layers", 2).set("width", 20).set("pattern", "causal & window<64>").set("embedding.weight", ls::dtype::F32, std::vector<ls::index>{30, 20});
        settings.set("rate", 1e-3).set("batch", "packed<2048>").set("corpus", "0123456789abcdef").set("clip", true);
        std::mt19937 random(3);
        for (std::vector<float>* const all : {&weight, &first, &second})
            for (float& x : *all) x = static_cast<float>(random()) * 0x1p-32f;
    }
    ls::bytes save(const std::string& path) const {
        ls::snapshot_writer file(model, settings);
        file.set("steps", ls::index{1234});
        file.set("seed", std::uint64_t{0xfedcba9876543210});
        file.set("loss_scale", 65536.0);
        file.set("loss", 0.1);
        file.set("worst", std::nan(""));
        file.set("dynamic", false);
        file.set("note", "\"longspan.checksum\":\"0123456789abcdef\"");
        file.add<float>("embedding.weight", {30, 20}, weight);
        file.add<float>(ls::first_moment_of("embedding.weight"), {30, 20}, first);
        file.add<float>(ls::second_moment_of("embedding.weight"), {30, 20}, second);
        file.add<ls::bf16>("narrow", {7}, narrow);
        file.add("raw", ls::dtype::U8, {3}, std::as_bytes(std::span("abc", 3)));
        return file.save(path);
    }
};

std::string open_refusal(const std::string& path) {
    return scratch::sentence_of<ls::bad_snapshot>([&] { (void)ls::snapshot_reader(path); });
}

}  // namespace

TEST_CASE("snapshot_file: a run is read back to the bit") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run.safetensors";
    const run before;
    const ls::bytes size = before.save(path);
    CHECK(size == static_cast<ls::bytes>(std::filesystem::file_size(path)));
    const ls::snapshot_reader file(path);
    file.require_model(before.model);
    CHECK(file.run_differences(before.settings).empty());
    CHECK(file.run() == before.settings);
    CHECK(file.get<ls::index>("steps") == 1234);
    CHECK(file.get<std::uint64_t>("seed") == 0xfedcba9876543210);
    CHECK(file.get<double>("loss_scale") == 65536.0);
    CHECK(file.get<double>("loss") == 0.1);
    CHECK(std::isnan(file.get<double>("worst")));
    CHECK(file.get<bool>("dynamic") == false);
    CHECK(file.text("note") == "\"longspan.checksum\":\"0123456789abcdef\"");
    CHECK(file.has("steps"));
    CHECK_FALSE(file.has("step"));
    std::vector<float> weight(600);
    file.read<float>("embedding.weight", {30, 20}, weight);
    CHECK(weight == before.weight);
    file.read<float>("first_moment.embedding.weight", {30, 20}, weight);
    CHECK(weight == before.first);
    file.read<float>("second_moment.embedding.weight", {30, 20}, weight);
    CHECK(weight == before.second);
    std::vector<ls::bf16> narrow(7);
    file.read<ls::bf16>("narrow", {7}, narrow);
    CHECK(std::memcmp(narrow.data(), before.narrow.data(), 14) == 0);
    before.save(here / "again");
    CHECK(scratch::contents(here / "again") == scratch::contents(path));
}

TEST_CASE("snapshot_file: a snapshot of another model is refused with the first key that differs, and both values") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    const run before;
    before.save(path);
    const ls::snapshot_reader file(path);
    const auto refused = [&](const ls::description& model) { return scratch::sentence_of<ls::bad_snapshot>([&] { file.require_model(model); }); };
    const std::string other = path + ": a snapshot of another model: ";
    ls::description wider, fewer, more, turned;
    wider.set("layers", 2).set("width", 24).set("pattern", "causal & window<64>").set("embedding.weight", "F32 [30, 24]");
    CHECK(refused(wider) == other + "model: width was 20, is 24 (and 1 more)");
    fewer.set("layers", 2).set("width", 20).set("embedding.weight", "F32 [30, 20]");
    CHECK(refused(fewer) == other + "model: pattern was causal & window<64>, is absent");
    more = before.model;
    more.set("head.weight", "F32 [20, 30]");
    CHECK(refused(more) == other + "model: head.weight was absent, is F32 [20, 30]");
    turned.set("width", 20).set("layers", 2).set("pattern", "causal & window<64>").set("embedding.weight", "F32 [30, 20]");
    CHECK(refused(turned) == other + "the same lines, in another order");
    CHECK(refused(before.model) == "");
}

TEST_CASE("snapshot_file: differences of the run are lines") {
    const scratch::folder here("snapshot");
    const run before;
    before.save(here / "run");
    ls::description now;
    now.set("rate", 2e-3).set("batch", "packed<2048>").set("corpus", "0123456789abcdef").set("warmup", 100);
    CHECK(ls::snapshot_reader(here / "run").run_differences(now) ==
          std::vector<std::string>{"run: rate was 0.001, is 0.002", "run: clip was true, is absent", "run: warmup was absent, is 100"});
}

TEST_CASE("snapshot_file: any flipped bit of the file is found") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    run().save(path);
    const std::string whole = scratch::contents(path);
    const auto head = static_cast<std::size_t>(ls::safetensors_reader(path).data_begin());
    std::mt19937 random(1);
    int in_tensors = 0;
    for (int round = 0; round < 3000; ++round) {
        // Every second one in the head, whose numbers and texts would else be believed.
        const std::size_t at = static_cast<std::size_t>(random()) % (round % 2 == 0 ? head : whole.size());
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
        scratch::put(path, damaged);
        CHECK_MESSAGE(open_refusal(path) != "", at);
        if (at >= head) {
            CHECK(open_refusal(path).find("the file is not as it was written") != std::string::npos);
            ++in_tensors;
        }
    }
    CHECK(in_tensors > 500);
}

TEST_CASE("snapshot_file: a file cut anywhere is refused") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    run().save(path);
    const std::string whole = scratch::contents(path);
    for (std::size_t n = 0; n < whole.size(); n += n < 100 ? 1 : 37) {
        scratch::put(path, whole.substr(0, n));
        CHECK_MESSAGE(open_refusal(path) != "", n);
    }
}

TEST_CASE("snapshot_file: the checksum is XXH64 of the file with zeros in its place") {
    const scratch::folder here("snapshot");
    ls::snapshot_writer({}, {}).save(here / "run");
    std::string whole = scratch::contents(here / "run");
    const std::string stored = *ls::safetensors_reader(here / "run").metadata("longspan.checksum");
    whole.replace(whole.find(stored), 16, 16, '0');
    ls::detail::checksum sum;
    sum.add(whole);
    CHECK(ls::detail::hex_digits(sum.value()) == stored);
    // Test vectors of the algorithm.
    CHECK(ls::detail::checksum().value() == 0xef46db3751d8e999);
    ls::detail::checksum abc;
    abc.add("a");
    abc.add("bc");
    CHECK(abc.value() == 0x44bc2cf5ad770999);
}

TEST_CASE("snapshot_file: a description that is not the one whose hash is stored is refused, though the file's checksum is right") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    run().save(path);
    std::string whole = scratch::contents(path);
    const std::string sum_before = *ls::safetensors_reader(path).metadata("longspan.checksum");
    const std::size_t line = whole.find("layers=2"), at = whole.find(sum_before);
    REQUIRE(line != std::string::npos);
    whole[line + 7] = '3';
    whole.replace(at, 16, 16, '0');
    ls::detail::checksum sum;
    sum.add(whole);
    whole.replace(at, 16, ls::detail::hex_digits(sum.value()));
    scratch::put(path, whole);
    CHECK(open_refusal(path).starts_with(path + ": the hash of longspan.model is "));
}

TEST_CASE("snapshot_file: other safetensors files, other versions, and what lacks its parts") {
    const scratch::folder here("snapshot");
    const std::string path = here / "other";
    ls::safetensors_writer().write(path);
    CHECK(open_refusal(path) == path + ": a safetensors file, but no snapshot of a run (no longspan.snapshot)");
    ls::safetensors_writer newer;
    newer.set_metadata("longspan.snapshot", "2");
    newer.write(path);
    CHECK(open_refusal(path) == path + ": expected a snapshot of version 1, came \"2\"");
    ls::safetensors_writer bare;
    bare.set_metadata("longspan.snapshot", "1");
    bare.write(path);
    CHECK(open_refusal(path) == path + ": a snapshot has longspan.checksum in its metadata, this one does not");
    for (const char* sum : {"", "0", "0000000000000000", "00000000000000000"}) {
        ls::safetensors_writer wrong;
        wrong.set_metadata("longspan.snapshot", "1");
        wrong.set_metadata("longspan.checksum", sum);
        wrong.write(path);
        CHECK(open_refusal(path).find("the file is not as it was written") != std::string::npos);
    }
    CHECK(open_refusal(here / "nothing") == (here / "nothing") + ": cannot be opened: No such file or directory");
}

TEST_CASE("snapshot_file: state that is missing, or is no number of the type, is refused") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    ls::snapshot_writer writer({}, {});
    for (const auto& [key, text] : {std::pair{"half", "1.5"}, {"minus", "-1"}, {"long", "4294967296"}, {"tail", "12x"}, {"none", ""}, {"plus", "+1"}, {"space", " 1"}})
        writer.set(key, text);
    CHECK_THROWS_AS(writer.set("half", 2), ls::bad_argument);
    writer.save(path);
    const ls::snapshot_reader file(path);
    const auto refused = [&](auto type, const char* key) {
        return scratch::sentence_of<ls::bad_snapshot>([&] { (void)file.get<decltype(type)>(key); });
    };
    CHECK(refused(0, "half") == path + ": state.half: expected an integer of 32 bits, came \"1.5\"");
    CHECK(refused(0.0, "half") == "");
    CHECK(refused(0u, "minus") != "");
    CHECK(refused(0, "minus") == "");
    CHECK(refused(0u, "long") != "");
    CHECK(refused(ls::index{0}, "long") == "");
    for (const char* key : {"tail", "none", "plus", "space"}) CHECK(refused(0, key) != "");
    CHECK(refused(true, "minus").ends_with("expected true or false, came \"-1\""));
    CHECK(refused(0, "nothing") == path + ": a snapshot has state.nothing in its metadata, this one does not");
}

TEST_CASE("snapshot_file: a full disk while saving leaves the old snapshot, readable") {
    const scratch::folder here("snapshot");
    const std::string path = here / "run";
    run before;
    before.save(path);
    const std::string whole = scratch::contents(path);
    before.weight[0] = 7;
    const std::string sentence = scratch::sentence_of<ls::write_failed>([&] {
        const scratch::file_size_limit limit(4096);
        before.save(path);
    });
    CHECK(sentence.starts_with("saving \"" + path + "\" (4096 of "));
    CHECK(scratch::contents(path) == whole);
    CHECK(here.entries() == 1);
    CHECK(open_refusal(path) == "");
}

TEST_CASE("snapshot_file: descriptions are ordered, unique, and read back as they were") {
    ls::description d;
    d.set("a", "x=y").set("b", "").set("c", 0.1).set("d", std::uint64_t{UINT64_MAX}).set("e", false).set("f", 0.1f);
    CHECK(d.text() == "a=x=y\nb=\nc=0.1\nd=18446744073709551615\ne=false\nf=0.1\n");
    CHECK(ls::description::parse(d.text(), "here") == d);
    CHECK(ls::description::parse("", "here") == ls::description());
    CHECK(d.hash() != ls::description().hash());
    CHECK(*d.find("a") == "x=y");
    CHECK(d.find("g") == nullptr);
    CHECK_THROWS_AS(d.set("a", 1), ls::bad_argument);
    CHECK_THROWS_AS(d.set("", 1), ls::bad_argument);
    CHECK_THROWS_AS(d.set("g=", 1), ls::bad_argument);
    CHECK_THROWS_AS(d.set("g", "1\n2"), ls::bad_argument);
    for (const char* text : {"a", "a\n", "=1\n", "a=1", "a=1\nb", "a=1\na=2\n", "\n"}) {
        CAPTURE(text);
        CHECK_THROWS_AS((void)ls::description::parse(text, "here"), ls::bad_snapshot);
    }
}
