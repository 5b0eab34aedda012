// SPDX-License-Identifier: Apache-2.0
//
// The cases named after a wrong way to read are failures of published C++ readers of the format, or of the JSON libraries below
// them. The format's own validator (safetensors 0.8) refuses the same files; we are stricter than it about four things: a key
// twice in the metadata, keys of a tensor that the format does not name, and white space around the header other than spaces
// behind it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include <sys/stat.h>

#include <longspan/train/safetensors.hpp>

#include "scratch.hpp"

namespace ls = longspan;
using ls::bytes;

namespace {

std::string refusal(std::string_view json, bytes data) {
    return scratch::sentence_of<ls::bad_snapshot>([&] { (void)ls::parse_safetensors_header(json, data, "f"); });
}

// One CHECK for all cases: each costs the compiler as much as a test case does.
void refuses(std::string_view json, bytes data) {
    CAPTURE(json);
    CHECK(refusal(json, data) != "");
}
void refuses(std::string_view json, bytes data, std::string_view sentence) {
    CAPTURE(json);
    CHECK(refusal(json, data) == sentence);
}
void accepts(std::string_view json, bytes data) { refuses(json, data, ""); }

/// One tensor called a.
std::string one(const std::string& type, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + type + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}
std::string bytes_at(const std::string& name, ls::index begin, ls::index end) {
    return "\"" + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" + std::to_string(begin) + "," +
           std::to_string(end) + "]}";
}
std::string length_prefix(std::uint64_t n) {
    std::string out(8, '\0');
    std::memcpy(out.data(), &n, 8);
    return out;
}
std::string file_of(const std::string& json, const std::string& data) { return length_prefix(json.size()) + json + data; }

std::string open_refusal(const std::string& path) {
    return scratch::sentence_of<ls::bad_snapshot>([&] { (void)ls::safetensors_reader(path); });
}

/// A few tensors of several types, and the file of them.
struct sample {
    std::vector<float> weight = std::vector<float>(15);
    std::vector<double> exact{0.1, -0.0};
    std::vector<std::int64_t> counts{INT64_MIN, 7};
    std::vector<ls::bf16> narrow = std::vector<ls::bf16>(3, ls::bf16(1.5f));
    std::vector<std::uint8_t> raw{1, 2, 3, 4, 5};
    float scalar = 2.5f;

    explicit sample(const std::string& path) {
        for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 0.1f * static_cast<float>(i);
        ls::safetensors_writer writer;
        writer.set_metadata("format", "pt");
        writer.set_metadata("note", "\"quoted\"\n\xc3\xa9");
        writer.add<std::uint8_t>("raw", {5}, raw);
        writer.add<float>("blocks.0.weight", {3, 5}, weight);
        writer.add<ls::bf16>("narrow", {3, 1}, narrow);
        writer.add<float>("nothing", {0, 4}, {});
        writer.add<double>("exact", {2}, exact);
        writer.add<float>("scalar", {}, std::span(&scalar, 1));
        writer.add<std::int64_t>("counts", {2}, counts);
        const bytes written = writer.write(path);
        CHECK(written == static_cast<bytes>(std::filesystem::file_size(path)));
    }
};

}  // namespace

TEST_CASE("safetensors: what is written is read back, with its type, shape and order") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a.safetensors";
    const sample s(path);
    const ls::safetensors_reader file(path);
    std::string names;
    for (const ls::tensor_entry& t : file.tensors()) names += t.name + " ";
    CHECK(names == "exact counts blocks.0.weight nothing scalar narrow raw ");
    CHECK(*file.metadata("note") == "\"quoted\"\n\xc3\xa9");
    CHECK(file.metadata("nothing") == nullptr);
    CHECK(file.metadata().size() == 2);

    std::vector<float> weight(15);
    file.read<float>("blocks.0.weight", {3, 5}, weight);
    CHECK(weight == s.weight);
    std::vector<std::int64_t> counts(2);
    file.read<std::int64_t>("counts", {2}, counts);
    CHECK(counts == s.counts);
    std::vector<ls::bf16> narrow(3);
    file.read<ls::bf16>("narrow", {3, 1}, narrow);
    CHECK(std::memcmp(narrow.data(), s.narrow.data(), 6) == 0);
    float scalar = 0;
    file.read<float>("scalar", {}, std::span(&scalar, 1));
    CHECK(scalar == 2.5f);
    file.read<float>("nothing", {0, 4}, {});

    std::vector<float> row(5);
    file.read(*file.find("blocks.0.weight"), 20, std::as_writable_bytes(std::span(row)));
    CHECK(row == std::vector<float>(s.weight.begin() + 5, s.weight.begin() + 10));
}

TEST_CASE("safetensors: every tensor lies aligned to its element, and the data to 64 bytes") {
    const scratch::folder here("safetensors");
    const sample s(here / "a");
    const ls::safetensors_reader file(here / "a");
    CHECK(file.data_begin() % 64 == 0);
    for (const ls::tensor_entry& t : file.tensors()) CHECK(t.begin % ls::size_of(t.type) == 0);
}

TEST_CASE("safetensors: a file without tensors, and one whose tensors lie unaligned, are files") {
    const scratch::folder here("safetensors");
    scratch::put(here / "empty", file_of("{}", ""));
    CHECK(ls::safetensors_reader(here / "empty").tensors().empty());
    ls::safetensors_writer().write(here / "none");
    CHECK(ls::safetensors_reader(here / "none").tensors().empty());
    // The format asks writers, not readers, for alignment; here bytes are copied, never pointed at.
    const float x = 1.25f;
    std::string data("?????", 5);
    std::memcpy(data.data() + 1, &x, 4);
    scratch::put(here / "odd", file_of("{" + bytes_at("b", 0, 1) + R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}  )", data));
    float y = 0;
    ls::safetensors_reader(here / "odd").read<float>("a", {1}, std::span(&y, 1));
    CHECK(y == x);
}

TEST_CASE("safetensors: reading another type, shape or name than is there is refused with both") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a";
    const sample s(path);
    const ls::safetensors_reader file(path);
    std::vector<float> into(15);
    const auto refused = [&](auto&& f) { return scratch::sentence_of<ls::bad_snapshot>(f); };
    CHECK(refused([&] { file.read<float>("blocks.0.weight", {5, 3}, into); }) ==
          path + ": tensor \"blocks.0.weight\": expected F32 [5, 3], came F32 [3, 5]");
    CHECK(refused([&] { file.read<float>("blocks.0.weight", {15}, into); }) != "");
    std::vector<std::int32_t> integers(15);
    CHECK(refused([&] { file.read<std::int32_t>("blocks.0.weight", {3, 5}, integers); }).find("expected I32 [3, 5], came F32") != std::string::npos);
    CHECK(refused([&] { file.read<float>("weight", {15}, into); }) == path + ": expected the tensor \"weight\", which is not there");
    CHECK_THROWS_AS(file.read<float>("blocks.0.weight", {3, 4}, into), ls::bad_argument);
    CHECK_THROWS_AS(file.read(file.tensors()[0], 0, std::as_writable_bytes(std::span(into))), ls::bad_argument);
    CHECK_THROWS_AS(file.read(file.tensors()[0], -1, {}), ls::bad_argument);
    CHECK_THROWS_AS(file.read(file.tensors()[0], INT64_MAX, {}), ls::bad_argument);
}

TEST_CASE("safetensors: a writer refuses what no reader would take") {
    const float x = 0;
    const std::span<const float> one_float(&x, 1);
    ls::safetensors_writer writer;
    CHECK_THROWS_AS(writer.add<float>("a", {2}, one_float), ls::bad_argument);
    CHECK_THROWS_AS(writer.add<float>("a", {-1, -1}, one_float), ls::bad_argument);
    CHECK_THROWS_AS(writer.add<float>("a", {ls::index{1} << 62, 4}, {}), ls::bad_argument);
    CHECK_THROWS_AS(writer.add<float>("\xff", {1}, one_float), ls::bad_argument);
    CHECK_THROWS_AS(writer.add<float>("__metadata__", {1}, one_float), ls::bad_argument);
    writer.set_metadata("k", "v");
    CHECK_THROWS_AS(writer.set_metadata("k", "v"), ls::bad_argument);
    CHECK_THROWS_AS(writer.set_metadata("l", "\xff"), ls::bad_argument);
    writer.add<float>("a", {1}, one_float);
    writer.add<float>("a", {1}, one_float);
    CHECK_THROWS_AS((void)writer.image(), ls::bad_argument);
}

TEST_CASE("safetensors: shape product that wraps to 0") {
    refuses(one("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0, "f: tensor \"a\": F32 [4611686018427387904, 4] has more bytes than 63 bits can count");
    refuses(one("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0);
    refuses(one("\"F32\"", "[4611686018427387904]", "[0,0]"), 0);            // the elements fit, their bytes wrap
    refuses(one("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), 0);         // and a 0 excuses nothing,
    refuses(one("\"U8\"", "[0,4294967296,4294967296]", "[0,0]"), 0);         // wherever it stands
    refuses(one("\"U8\"", "[9223372036854775807,2,1]", "[0,0]"), 0);
    refuses(one("\"U8\"", "[6148914691236517206,3]", "[0,2]"), 2);           // 2^64 + 2
}

TEST_CASE("safetensors: 2^64 read as 0, -1 wrapped, 1.5 cut") {
    for (const char* number : {"18446744073709551616", "18446744073709551615", "9223372036854775808", "-1", "-0.0", "1.5", "0.0", "0e0", "null",
                               "\"0\"", "true", "[0]", "1e999"}) {
        CAPTURE(number);
        const std::string n = number;
        refuses(one("\"U8\"", "[" + n + "]", "[0,0]"), 0);
        refuses(one("\"U8\"", "[0]", "[" + n + ",0]"), 0);
        refuses(one("\"U8\"", "[0]", "[0," + n + "]"), 0);
    }
    accepts(one("\"U8\"", "[0]", "[0,0]"), 0);
    refuses(one("\"U8\"", "[1.5]", "[0,1]"), 1, "f: tensor \"a\", shape: expected an integer from 0 to 9223372036854775807, came 1.5");
}

TEST_CASE("safetensors: duplicate keys, the last of which wins") {
    refuses("{" + bytes_at("a", 0, 1) + "," + bytes_at("a", 1, 2) + "}", 2, "f: the key \"a\" stands twice in one object");
    refuses(R"({"a":{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,2]}})", 2);
    refuses(R"({"__metadata__":{},"__metadata__":{}})", 0);
    refuses(R"({"__metadata__":{"k":"1","k":"2"}})", 0);
    refuses("{" + bytes_at("a", 0, 1) + "," + bytes_at("\\u0061", 1, 2) + "}", 2);
}

TEST_CASE("safetensors: offsets that run backwards") {
    refuses(one("\"U8\"", "[1]", "[1,0]"), 1, "f: tensor \"a\": its data_offsets [1, 0] run backwards");
    refuses(one("\"U8\"", "[0]", "[1,0]"), 1);
}

TEST_CASE("safetensors: offsets beyond the file") {
    refuses(one("\"U8\"", "[4]", "[0,4]"), 3, "f: tensor \"a\": its data_offsets [0, 4] end beyond the file's 3 bytes of data");
    refuses(one("\"U8\"", "[9223372036854775807]", "[0,9223372036854775807]"), 3);
}

TEST_CASE("safetensors: a shape that is not the size of the data") {
    refuses(one("\"F32\"", "[2]", "[0,4]"), 4, "f: tensor \"a\": F32 [2] takes 8 bytes, its data_offsets [0, 4] give 4");
    refuses(one("\"F32\"", "[]", "[0,8]"), 8, "f: tensor \"a\": F32 [] takes 4 bytes, its data_offsets [0, 8] give 8");
    refuses(one("\"F32\"", "[]", "[0,0]"), 0);  // a scalar has one element
    accepts(one("\"F32\"", "[]", "[0,4]"), 4);
    refuses(one("\"F32\"", "[0]", "[0,4]"), 4);
    accepts(one("\"F32\"", "[3,0,7]", "[0,0]"), 0);
}

TEST_CASE("safetensors: tensors that overlap") {
    refuses("{" + bytes_at("a", 0, 3) + "," + bytes_at("b", 2, 4) + "}", 4, "f: tensor \"b\" begins at byte 2, inside the tensor before it, which ends at 3");
    refuses("{" + bytes_at("a", 0, 4) + "," + bytes_at("b", 0, 4) + "}", 4);
    refuses("{" + bytes_at("a", 0, 4) + "," + bytes_at("b", 1, 2) + "}", 4);
    refuses("{" + bytes_at("a", 0, 4) + "," + bytes_at("b", 2, 2) + "}", 4);  // an empty one too
    accepts("{" + bytes_at("b", 2, 4) + "," + bytes_at("c", 2, 2) + "," + bytes_at("a", 0, 2) + "}", 4);
}

TEST_CASE("safetensors: holes between, before and behind tensors") {
    refuses("{" + bytes_at("a", 0, 1) + "," + bytes_at("b", 2, 3) + "}", 3, "f: tensor \"b\" begins at byte 2, behind a hole that begins at 1");
    refuses("{" + bytes_at("a", 1, 3) + "}", 3);
    refuses("{" + bytes_at("a", 0, 2) + "}", 3, "f: its tensors end at byte 2, its data at byte 3");
    refuses("{}", 1);
}

TEST_CASE("safetensors: unknown types, missing and surplus keys, wrong kinds") {
    refuses(one("\"F33\"", "[1]", "[0,4]"), 4, "f: tensor \"a\": expected a dtype of BOOL, U8 ... F64, came \"F33\"");
    for (const char* type : {"\"f32\"", "\"\"", "\"F32 \"", "32", "null", "[\"F32\"]", "\"F4\"", "\"F32\\u0000\""}) refuses(one(type, "[1]", "[0,4]"), 4);
    refuses(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "f: tensor \"a\" has no dtype");
    refuses(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "f: tensor \"a\" has no shape");
    refuses(R"({"a":{"dtype":"U8","shape":[1]}})", 1, "f: tensor \"a\" has no data_offsets");
    refuses(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"stride":[1]}})", 1, "f: tensor \"a\": expected dtype, shape and data_offsets, came \"stride\"");
    for (const char* offsets : {"[0]", "[0,1,1]", "[]", "0", "{}", "null", "[[0,1]]"}) refuses(one("\"U8\"", "[1]", offsets), 1);
    for (const char* shape : {"1", "{}", "null", "\"1\"", "[[1]]"}) refuses(one("\"U8\"", shape, "[0,1]"), 1);
    refuses(R"({"a":[]})", 0);
    refuses(R"({"a":null})", 0);
    refuses(R"({"__metadata__":[]})", 0);
    refuses(R"({"__metadata__":{"k":1}})", 0, "f: __metadata__, \"k\": expected a string, came 1");
    refuses(R"({"__metadata__":{"k":null}})", 0);
}

TEST_CASE("safetensors: names and metadata that are not UTF-8") {
    refuses("{" + bytes_at("\xff", 0, 1) + "}", 1);
    refuses("{" + bytes_at("\xc0\x80", 0, 1) + "}", 1);
    refuses("{\"__metadata__\":{\"k\":\"\xed\xa0\x80\"}}", 0);
    accepts("{" + bytes_at("\xc3\xa9", 0, 1) + "}", 1);
    accepts("{" + bytes_at("", 0, 1) + "}", 1);
}

TEST_CASE("safetensors: what stands before or behind the header's object") {
    using namespace std::string_view_literals;
    for (const std::string_view json : {""sv, " {}"sv, "\xef\xbb\xbf{}"sv, "{}\n"sv, "{}x"sv, "{} x"sv, "{}{}"sv, "{}\0"sv, "{}\0{}"sv, "[]"sv, "null"sv, "{"sv,
                                        "{]}"sv, "{}/**/ "sv})
        refuses(json, 0);
    accepts("{}      ", 0);
}

TEST_CASE("safetensors: a header that is longer than the file, or than a header may be") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a";
    const std::uint64_t lengths[] = {3, 100'000'000, 100'000'001, std::uint64_t{1} << 32, std::uint64_t{1} << 63, UINT64_MAX - 7, UINT64_MAX};
    for (const std::uint64_t n : lengths) {
        CAPTURE(n);
        scratch::put(path, length_prefix(n) + "{}");
        CHECK(open_refusal(path) != "");
    }
    CHECK(open_refusal(path) == path + ": a safetensors header has at most 100000000 bytes; this file claims 18446744073709551615");
    scratch::put(path, length_prefix(1) + "{}");
    CHECK(open_refusal(path) != "");
}

TEST_CASE("safetensors: no file, an empty one, a folder, a pipe, one that may not be read") {
    const scratch::folder here("safetensors");
    CHECK(open_refusal(here / "nothing") == (here / "nothing") + ": cannot be opened: No such file or directory");
    scratch::put(here / "empty", "");
    CHECK(open_refusal(here / "empty").ends_with("this one has 0 bytes in all"));
    CHECK(open_refusal(here.path.string()) == here.path.string() + ": is no file");
    REQUIRE(::mkfifo((here / "pipe").c_str(), 0600) == 0);
    CHECK(open_refusal(here / "pipe") == (here / "pipe") + ": is no file");
}

TEST_CASE("safetensors: a file cut at any byte, or followed by any, is refused") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a", whole = (sample(path), scratch::contents(path));
    for (std::size_t n = 0; n < whole.size(); ++n) {
        scratch::put(path, whole.substr(0, n));
        CHECK_MESSAGE(open_refusal(path) != "", n);
    }
    scratch::put(path, whole + '\0');
    CHECK(open_refusal(path) != "");
    scratch::put(path, whole);
    CHECK(open_refusal(path) == "");
}

TEST_CASE("safetensors: a file that shrinks after it was opened is noticed") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a";
    const sample s(path);
    const ls::safetensors_reader file(path);
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(file.data_begin()) + 3);
    std::vector<double> into(2);
    CHECK(scratch::sentence_of<ls::bad_snapshot>([&] { file.read<double>("exact", {2}, into); }).ends_with(": the file has become shorter"));
}

TEST_CASE("safetensors: random damage is refused, or leaves what can be read in full") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a";
    const std::string whole = (sample(path), scratch::contents(path));
    const auto head = static_cast<std::size_t>(ls::safetensors_reader(path).data_begin());
    std::mt19937 random(20);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    int refused = 0, read = 0;
    for (int round = 0; round < 4000; ++round) {
        std::string damaged = whole;
        const std::string words[] = {"[", "]", "{", "}", ",", ":", "\"", "0", "-", "9223372036854775807", "1e9", "null", "\"shape\"", "\\u0000"};
        for (std::size_t n = 1 + below(3); n > 0; --n) {
            const std::size_t at = round % 2 == 0 ? below(damaged.size()) : 8 + below(std::min(damaged.size(), head) - 8);
            switch (below(5)) {
                case 0: damaged.resize(std::max<std::size_t>(at, 16)); break;
                case 1: damaged.insert(at, words[below(std::size(words))]); break;
                case 2: damaged.erase(at, 1 + below(8)); break;
                default: damaged[at] = static_cast<char>(damaged[at] ^ (1 << below(8)));
            }
        }
        scratch::put(path, damaged);
        try {
            const ls::safetensors_reader file(path);
            bytes covered = 0;
            for (const ls::tensor_entry& t : file.tensors()) {
                std::vector<std::byte> into(static_cast<std::size_t>(t.size()));
                file.read(t.name, t.type, t.shape, into);
                const auto from = static_cast<std::size_t>(file.data_begin() + t.begin);
                CHECK(std::ranges::equal(into, std::as_bytes(std::span(damaged)).subspan(from, into.size())));
                covered += t.size();
            }
            CHECK(file.data_begin() + covered == static_cast<bytes>(damaged.size()));
            ++read;
        } catch (const ls::bad_snapshot&) {
            ++refused;
        }
    }
    CHECK(refused > 1000);
    CHECK(read > 50);  // damage to names, metadata and data is none to the format
}

TEST_CASE("safetensors: a full disk while saving leaves the old file") {
    const scratch::folder here("safetensors");
    const std::string path = here / "a";
    const sample s(path);
    const std::string before = scratch::contents(path);
    const std::vector<float> large(10000);
    ls::safetensors_writer writer;
    writer.add<float>("large", {100, 100}, large);
    const std::string sentence = scratch::sentence_of<ls::write_failed>([&] {
        const scratch::file_size_limit limit(20'000);
        writer.write(path);
    });
    CHECK(sentence.find("20000 of 40128 bytes written") != std::string::npos);
    CHECK(scratch::contents(path) == before);
    CHECK(here.entries() == 1);
}

TEST_CASE("safetensors: sizes and names of the types") {
    static_assert(ls::dtype_of<float> == ls::dtype::F32 && ls::dtype_of<ls::fp16> == ls::dtype::F16 && ls::dtype_of<bool> == ls::dtype::BOOL);
    static_assert(ls::dtype_of<std::uint32_t> == ls::dtype::U32 && ls::dtype_of<long long> == ls::dtype::I64 && ls::dtype_of<std::int8_t> == ls::dtype::I8);
    static_assert(ls::size_of(ls::dtype::F8_E4M3) == 1 && ls::size_of(ls::dtype::BF16) == 2 && ls::size_of(ls::dtype::U64) == 8);
    static_assert(ls::name_of(ls::dtype::F8_E4M3) == "F8_E4M3" && ls::name_of(ls::dtype::F64) == "F64");
    const ls::index shape[] = {2, 0, 3}, negative[] = {0, -1};
    static_assert(ls::tensor_bytes(ls::dtype::F64, {}) == 8);
    CHECK(ls::tensor_bytes(ls::dtype::F64, shape) == 0);
    CHECK(ls::tensor_bytes(ls::dtype::F64, negative) == -1);
    CHECK(ls::describe(ls::dtype::F64, shape) == "F64 [2, 0, 3]");
}
