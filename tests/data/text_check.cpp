// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include <longspan/data/text_check.hpp>

namespace ls = longspan;

namespace {

constexpr ls::text_check of(std::string_view text) {
    ls::text_check check;
    check.add(text);
    return check;
}
constexpr ls::index stray(std::string_view text) { return of(text).stray_bytes(); }

/// The encoding of a code point, whether or not it may be encoded.
std::string utf8(unsigned code) {
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) return {static_cast<char>(code)};
    if (code < 0x800) return {static_cast<char>(0xc0 | (code >> 6)), tail(0)};
    if (code < 0x10000) return {static_cast<char>(0xe0 | (code >> 12)), tail(6), tail(0)};
    return {static_cast<char>(0xf0 | (code >> 18)), tail(12), tail(6), tail(0)};
}

}  // namespace

static_assert(stray("int main() {\n\treturn 0;\r\n}\f") == 0);
static_assert(stray("\x1b[31m red") == 0);      // a terminal's colours
static_assert(stray("\x01\x7f") == 2);          // control characters
static_assert(stray("\x80") == 1);              // a continuation of nothing
static_assert(stray("\xc0\xaf") == 2);          // "/" in two bytes
static_assert(stray("\xe0\x9f\xbf") == 3);      // in three where two do
static_assert(stray("\xf0\x8f\xbf\xbf") == 4);  // in four where three do
static_assert(stray("\xed\xa0\x80") == 3);      // a surrogate
static_assert(stray("\xf4\x90\x80\x80") == 4);  // beyond U+10FFFF
static_assert(stray("\xe4\xb8") == 2);          // the stream ends amid a character
static_assert(stray("\xe4\xb8z") == 2);         // a character breaks off; the z is one
static_assert(stray("\xc3\xc3\xa4") == 1);      // a new character begins where a continuation should be
static_assert(of(std::string_view("a\0b", 3)).nul_bytes() == 1);

TEST_CASE("text_check: every code point is text but the surrogates, NUL and control characters") {
    for (unsigned code = 1; code < 0x110000; ++code) {
        const bool control = code < 0x20 && !(code >= 0x08 && code <= 0x0d) && code != 0x1b;
        const bool none = control || code == 0x7f || (code >= 0xd800 && code <= 0xdfff);
        const std::string text = utf8(code);
        if (stray(text) != (none ? static_cast<ls::index>(text.size()) : 0)) FAIL("code point ", code);
    }
}

TEST_CASE("text_check: the cut between two blocks does not matter") {
    const std::string text = "a\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80 \xff \xe4\xb8z \xf0\x9f";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        ls::text_check check;
        check.add(std::string_view(text).substr(0, cut));
        check.add(std::string_view(text).substr(cut));
        CHECK(check.stray_bytes() == 5);
        CHECK(check.size() == static_cast<ls::index>(text.size()));
    }
}

TEST_CASE("text_check: one stray byte in ten is let through, a NUL never") {
    CHECK(of("").is_text());
    CHECK(of("123456789\xff").is_text());
    CHECK_FALSE(of("12345678\xff").is_text());
    CHECK_FALSE(of(std::string(1000, 'a') + '\0').is_text());
    CHECK(of("Die Gr\xf6\xdf" "e des Verh\xe4ltnisses ist gut bekannt.").is_text());  // Latin-1
    CHECK_FALSE(of("\xcf\xf0\xe8\xe2\xe5\xf2, \xec\xe8\xf0!").is_text());  // Windows-1251
    std::string noise;
    for (unsigned i = 0, x = 1; i < 4096; ++i, x = x * 1664525 + 1013904223) noise += static_cast<char>((x >> 24) | 1);
    CHECK_FALSE(of(noise).is_text());
}
