// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cfloat>
#include <climits>
#include <cstdlib>
#include <random>

#include <longspan/train/json.hpp>

namespace ls = longspan;

namespace {

/// The sentence that a text is refused with; empty when it is taken.
std::string refusal(std::string_view text, ls::json_limits limits = {}) {
    try {
        (void)ls::parse_json(text, "here", limits);
        return "";
    } catch (const ls::bad_snapshot& refused) {
        return refused.what();
    }
}

// One CHECK for all cases: each costs the compiler as much as a test case does.
void refuses(std::string_view text) {
    CAPTURE(text);
    CHECK(refusal(text) != "");
}
void refuses_with(std::string_view sentence, std::string_view text, ls::json_limits limits = {}) {
    CAPTURE(text);
    CHECK(refusal(text, limits) == sentence);
}
void accepts(std::string_view text, ls::json_limits limits = {}) { refuses_with("", text, limits); }

/// The one number, text or list of a JSON text is refused by `read` with a sentence that ends so.
void ends(std::string_view sentence, std::string_view text, void (*read)(const ls::json_value&)) {
    std::string came;
    try {
        read(ls::parse_json(text, "here"));
    } catch (const ls::bad_snapshot& refused) {
        came = refused.what();
    }
    CAPTURE(came);
    CHECK((!came.empty() && came.ends_with(sentence)));
}

template <class T>
std::string written(const T& value) {
    std::string out;
    ls::append_json(out, value);
    return out;
}

}  // namespace

TEST_CASE("json: every kind of value is read as itself, members in the order of the text") {
    const ls::json_value value = ls::parse_json(
        R"( {"z": 18446744073709551615, "a": -9223372036854775808, "x": [0.1, 1e-5, 3, true, null], "t": "\u00e9\ud83d\ude00\n"} )", "here");
    CHECK(value.members("v").size() == 4);
    CHECK(value.members("v")[0].name == "z");
    CHECK(value.find("z")->natural("z") == UINT64_MAX);
    CHECK(value.find("a")->integer("a") == INT64_MIN);
    const auto& list = value.find("x")->items("x");
    CHECK(list[0].real("x") == 0.1);
    CHECK(list[1].real("x") == 1e-5);
    CHECK(list[2].real("x") == 3.0);
    CHECK(list[2].natural("x") == 3);
    CHECK(list[3].boolean("x"));
    CHECK(value.find("t")->text("t") == "\xc3\xa9\xf0\x9f\x98\x80\n");
    CHECK(value.find("nothing") == nullptr);
    CHECK(list[0].find("nothing") == nullptr);
}

TEST_CASE("json: a typed reader refuses what is of another kind, and never rounds, wraps or cuts") {
    const auto one = [](std::string_view text) { return ls::parse_json(text, "here"); };
    const auto natural = [](const ls::json_value& value) { (void)value.natural("size"); };
    const auto real = [](const ls::json_value& value) { (void)value.real("x"); };
    ends("size: expected an integer from 0 to 18446744073709551615, came 1.5", "1.5", natural);
    ends("came 1.0", "1.0", natural);
    ends("came 1000.0", "1e3", natural);
    ends("came -1", "-1", natural);
    ends("size: expected an integer from 0 to 255, came 256", "256", [](const ls::json_value& value) { (void)value.natural("size", 255); });
    ends("came 9223372036854775808", "9223372036854775808", [](const ls::json_value& value) { (void)value.integer("size"); });
    ends("came \"7\"", "\"7\"", natural);
    ends("came a list of 2", "[1,2]", natural);
    ends("name: expected a string, came null", "null", [](const ls::json_value& value) { (void)value.text("name"); });
    ends("flag: expected true or false, came 1", "1", [](const ls::json_value& value) { (void)value.boolean("flag"); });
    ends("list: expected a list, came an object of 0", "{}", [](const ls::json_value& value) { (void)value.items("list"); });
    ends("map: expected an object, came a list of 0", "[]", [](const ls::json_value& value) { (void)value.members("map"); });
    CHECK(one("9007199254740992").real("x") == 0x1p53);
    CHECK(one("-9223372036854775808").real("x") == -0x1p63);
    ends("x: expected a number that a double holds, came 9007199254740993", "9007199254740993", real);
    ends("", "18446744073709551615", real);
    ends("", "\"1\"", real);
}

TEST_CASE("json: integers of more than 64 bits are refused, not read as 0 or as a rounded double") {
    refuses_with("here: an integer of at most 64 bits was expected, came 18446744073709551616", "18446744073709551616");
    refuses_with("here: an integer of at most 64 bits was expected, came -9223372036854775809", "-9223372036854775809");
    accepts("18446744073709551615");
    refuses("1e400");  // no double
}

TEST_CASE("json: a key that stands twice is refused, whatever lies between") {
    refuses_with("here: the key \"a\" stands twice in one object", R"({"a": 1, "b": 2, "a": 1})");
    accepts(R"({"a": 1, "b": {"\u0061": 2, "c": 3}})");
    refuses(R"({"a": 1, "\u0061": 2})");
    refuses(R"([{"": 1, "": 2}])");
}

TEST_CASE("json: what is no JSON is refused with the byte where it stops being any") {
    CHECK(refusal("{\"a\": tru}").starts_with("here: byte 10 of the JSON: syntax error"));
    for (const char* text : {"", " ", "{", "}", "[1,]", "{\"a\":1,}", "{\"a\"}", "{a:1}", "{'a':1}", "[1 2]", "01", "+1", ".5", "1.", "NaN", "Infinity",
                             "-", "0x10", "\"\n\"", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"", "// c\n1", "/* c */1", "1 1", "{} {}", "{}x", "[]]", "nul",
                             "\"\x80\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\xef\xbb\xbf{}"}) {
        CAPTURE(text);
        refuses(text);
    }
    accepts("{} \n\t\r ");
}

TEST_CASE("json: a NUL byte is no end of text behind which anything may stand") {
    using namespace std::string_view_literals;
    refuses_with("here: byte 3 of the JSON is NUL", "{}\0{\"hidden\":1}"sv);
    refuses("{}\0"sv);
    refuses("\0{}"sv);
    refuses("\"a\0b\""sv);
}

TEST_CASE("json: depth and number of values are bounded before they cost memory") {
    accepts("[[[1]]]", {.depth = 3});
    refuses_with("here: the JSON is nested more than 3 deep", "[[[[1]]]]", {.depth = 3});
    refuses_with("here: the JSON is nested more than 8 deep", std::string(1 << 20, '['));
    accepts("[1,[2],{\"a\":3}]", {.values = 6});
    refuses_with("here: the JSON has more than 5 values", "[1,[2],{\"a\":3}]", {.values = 5});
}

TEST_CASE("json: a refusal quotes no byte that a terminal would act on") {
    for (const std::string text : {"{\"\x1b[2J", "[\x1b]", "\"\xff\xfe\"", "[\"abc\xc3"}) {
        for (const char c : refusal(text)) CHECK((c >= 0x20 && c < 0x7f));
    }
    CHECK(ls::quoted_json("a\x1b[2J\x7f") == R"("a\u001b[2J\u007f")");
    CHECK(ls::quoted_json("a\xff") == "\"a?\"");
    CHECK(ls::quoted_json(std::string(100, 'x')) == "\"" + std::string(80, 'x') + "\"...");
}

TEST_CASE("json: UTF-8 is checked to the last bit") {
    for (const char* good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
        CAPTURE(good);
        CHECK(ls::is_utf8(good));
    }
    for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe1\x80", "\xf0\x8f\xbf\xbf",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xf1\x80\x80", "a\xe2\x82"}) {
        CAPTURE(bad);
        CHECK_FALSE(ls::is_utf8(bad));
    }
    CHECK_THROWS_AS(written(std::string_view("\xff")), ls::bad_argument);
}

TEST_CASE("json: doubles are written with the shortest digits that read back as the same bits") {
    CHECK(written(0.1) == "0.1");
    CHECK(written(1.0) == "1");
    CHECK(written(-0.0) == "-0");
    CHECK(written(0.1f) == "0.10000000149011612");
    CHECK(written(1e300) == "1e+300");
    CHECK(written(123456789012345670000.0) == "1.2345678901234567e+20");  // as digits, an integer beyond 64 bits
    CHECK(written(std::nan("")) == "\"NaN\"");
    CHECK(written(-HUGE_VAL) == "\"-Infinity\"");
    std::mt19937_64 random(7);
    for (int i = 0; i < 20000; ++i) {
        const double x = std::bit_cast<double>(random());
        if (!std::isfinite(x)) continue;
        const std::string digits = written(x);
        CHECK(std::strtod(digits.c_str(), nullptr) == x);
        CHECK(ls::parse_json(digits, "x").real("x") == x);
    }
    for (const double x : {DBL_MIN, DBL_MAX, DBL_TRUE_MIN, DBL_EPSILON}) CHECK(ls::parse_json(written(x), "x").real("x") == x);
}

TEST_CASE("json: integers, truth and text are written as they are read back") {
    CHECK(written(std::uint64_t{UINT64_MAX}) == "18446744073709551615");
    CHECK(written(std::int64_t{INT64_MIN}) == "-9223372036854775808");
    CHECK(written(true) == "true");
    CHECK(written(std::string_view("a\"\\\n\t\x01\x7f/\xc3\xa9")) == "\"a\\\"\\\\\\n\\t\\u0001\\u007f/\xc3\xa9\"");
    std::string all;
    for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
    std::string quoted;
    ls::append_json(quoted, std::string_view(all));
    CHECK(ls::parse_json(quoted, "x").text("x") == all);
}
