// SPDX-License-Identifier: Apache-2.0
//
// JSON for the two places where a run meets it: the header of a safetensors file and the lines of a log. Reading is strict,
// because the file may come from anywhere. Taken unguarded, the usual readers let the last of two equal keys win, read 2^64 as
// 0 or as a rounded double, wrap -1, cut 1.5 to 1, and end at a NUL byte; each of these is a `bad_snapshot` here that says
// where. Parsing goes through the SAX interface of nlohmann/json, which also checks that all text is UTF-8.
// Writing gives the shortest digits that read back as the same double.
//
// Memory of a parsed value: about 50 bytes a value besides its text; `json_limits` bounds depth and number.
// Reference: RFC 8259. Needs nlohmann-json3-dev; not reachable from longspan.hpp.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

struct json_member;

/// A parsed value. Integers stay integers: what has a point or an exponent is never one, and none is ever rounded. The typed
/// readers throw bad_snapshot, with `where` as the subject of the sentence, when the value is something else.
class json_value {
public:
    using list = std::vector<json_value>;
    using object = std::vector<json_member>;  ///< in the order of the text; no name twice
    using any = std::variant<std::nullptr_t, bool, std::uint64_t, std::int64_t, double, std::string, list, object>;

    json_value();
    /// std::int64_t is for negative integers; any other is a std::uint64_t.
    explicit json_value(any value);

    [[nodiscard]] const std::string& text(std::string_view where) const;
    [[nodiscard]] bool boolean(std::string_view where) const;
    /// An integer from 0 to `largest`.
    [[nodiscard]] std::uint64_t natural(std::string_view where,
                                        std::uint64_t largest = std::numeric_limits<std::uint64_t>::max()) const;
    [[nodiscard]] std::int64_t integer(std::string_view where) const;
    /// Any number that a double holds exactly as written, or nearest to what was written with a point or an exponent.
    [[nodiscard]] double real(std::string_view where) const;
    [[nodiscard]] const list& items(std::string_view where) const;
    [[nodiscard]] const object& members(std::string_view where) const;

    /// The member of an object with this name; null when there is none, or when this is no object.
    [[nodiscard]] const json_value* find(std::string_view name) const;

private:
    template <class T>
    [[nodiscard]] const T& get(std::string_view where, const char* expected) const;
    [[nodiscard]] std::string brief() const;
    any value_;
};

struct json_member {
    std::string name;
    json_value value;
};

// Here, where a member is a complete type.
inline json_value::json_value() : value_(nullptr) {}
inline json_value::json_value(any value) : value_(std::move(value)) {}

/// What a text may grow into before it is refused.
struct json_limits {
    index depth = 8;            ///< of lists and objects inside one another
    index values = index{4} << 20;  ///< in all, nested ones included: 200 MiB
};

/// The one value of a text, which fills it up to white space. Throws bad_snapshot. `where` names the text.
[[nodiscard]] json_value parse_json(std::string_view text, std::string_view where, json_limits limits = {});

/// True when every byte belongs to a well-formed character: nothing overlong, no surrogate, nothing above U+10FFFF.
[[nodiscard]] constexpr bool is_utf8(std::string_view text) noexcept;

/// Appends a quoted, escaped string. Throws bad_argument when it is not UTF-8: no JSON reader would take the line.
void append_json(std::string& out, std::string_view text);

/// Appends a number: the shortest digits that read back as the same double. JSON has no word for what is not finite, so that
/// is written as one of the strings "NaN", "Infinity", "-Infinity", which most languages read back.
template <std::floating_point T>
void append_json(std::string& out, T value);

template <std::integral T>
void append_json(std::string& out, T value);

/// Text of a file, for a sentence: quoted, escaped, cut after 80 bytes.
[[nodiscard]] std::string quoted_json(std::string_view text);

}  // namespace longspan

#include <longspan/train/detail/json.hpp>
