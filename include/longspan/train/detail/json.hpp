// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/json.hpp: the SAX handler which builds a value, the typed readers, the writer.
#pragma once

#if !__has_include(<nlohmann/json.hpp>)
#error "longspan: reading snapshots and logs needs nlohmann/json (Debian and Ubuntu: nlohmann-json3-dev)"
#endif

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include <longspan/train/json.hpp>

namespace longspan {

constexpr bool is_utf8(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    for (std::size_t i = 0; i < text.size();) {
        const unsigned lead = byte(i);
        if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4) return false;
        const std::size_t more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if (text.size() - i <= more) return false;
        for (std::size_t k = 1; k <= more; ++k)
            if ((byte(i + k) & 0xc0) != 0x80) return false;
        // The second byte decides about overlong forms, surrogates, and the end of Unicode.
        if (lead == 0xe0 && byte(i + 1) < 0xa0) return false;
        if (lead == 0xed && byte(i + 1) >= 0xa0) return false;
        if (lead == 0xf0 && byte(i + 1) < 0x90) return false;
        if (lead == 0xf4 && byte(i + 1) >= 0x90) return false;
        i += more + 1;
    }
    return true;
}

namespace detail {

inline void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte >= 0x20 && byte != 0x7f) {
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (c == '\t') {
            out += "\\t";
        } else {
            const char* const hex = "0123456789abcdef";
            out += "\\u00";
            out += hex[byte >> 4];
            out += hex[byte & 15];
        }
    }
}

/// What nlohmann's parser calls, event by event; without recursion, so depth costs no stack.
class json_builder {
public:
    json_builder(std::string_view where, json_limits limits) : where_(where), limits_(limits) {}

    bool null() { return put(json_value()); }
    bool boolean(bool value) { return put(json_value(value)); }
    bool number_unsigned(std::uint64_t value) { return put(json_value(value)); }
    bool number_integer(std::int64_t value) {
        return put(value < 0 ? json_value(value) : json_value(static_cast<std::uint64_t>(value)));
    }
    bool number_float(double value, const std::string& digits) {
        if (digits.find_first_of(".eE") == std::string::npos)
            refuse("an integer of at most 64 bits was expected, came " + digits.substr(0, 40));
        return put(json_value(value));
    }
    bool string(std::string& value) { return put(json_value(std::move(value))); }
    bool binary(const nlohmann::json::binary_t&) { return false; }

    bool start_object(std::size_t) { return open(true); }
    bool start_array(std::size_t) { return open(false); }
    bool key(std::string& name) {
        levels_.back().name = std::move(name);
        return true;
    }
    bool end_object() {
        std::vector<std::string_view> names;
        for (const json_member& member : levels_.back().members) names.push_back(member.name);
        std::sort(names.begin(), names.end());
        const auto twice = std::adjacent_find(names.begin(), names.end());
        if (twice != names.end()) refuse("the key " + quoted_json(*twice) + " stands twice in one object");
        return close(json_value(std::move(levels_.back().members)));
    }
    bool end_array() { return close(json_value(std::move(levels_.back().items))); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& reason) {
        // The library's sentence quotes the text, whose bytes may be anything.
        std::string why = reason.what();
        why = why.substr(std::min(why.find("] ") + 2, why.size()));
        if (why.starts_with("parse error at")) why = why.substr(std::min(why.find(": ") + 2, why.size()));
        why.resize(std::min<std::size_t>(why.size(), 160));
        for (char& c : why)
            if (c < 0x20 || c > 0x7e) c = '?';
        refuse("byte " + std::to_string(position) + " of the JSON: " + why);
    }

    [[nodiscard]] json_value take() { return std::move(whole_); }

private:
    struct level {
        bool object;
        std::string name;  // of the member whose value comes next
        json_value::list items;
        json_value::object members;
    };

    [[noreturn]] void refuse(const std::string& sentence) const { throw bad_snapshot(std::string(where_) + ": " + sentence); }

    void count() {
        if (++values_ > limits_.values) refuse("the JSON has more than " + std::to_string(limits_.values) + " values");
    }
    bool put(json_value value) {
        count();
        return place(std::move(value));
    }
    bool place(json_value value) {
        if (levels_.empty()) {
            whole_ = std::move(value);
        } else if (level& here = levels_.back(); here.object) {
            here.members.push_back({std::move(here.name), std::move(value)});
        } else {
            here.items.push_back(std::move(value));
        }
        return true;
    }
    bool open(bool object) {
        count();
        if (static_cast<index>(levels_.size()) == limits_.depth)
            refuse("the JSON is nested more than " + std::to_string(limits_.depth) + " deep");
        levels_.push_back({object, {}, {}, {}});
        return true;
    }
    bool close(json_value value) {
        levels_.pop_back();
        return place(std::move(value));
    }

    std::string_view where_;
    json_limits limits_;
    index values_ = 0;
    std::vector<level> levels_;
    json_value whole_;
};

}  // namespace detail

inline json_value parse_json(std::string_view text, std::string_view where, json_limits limits) {
    // The library takes a NUL byte for the end of the text, and skips a byte order mark.
    expects<bad_snapshot>(text.find('\0') == std::string_view::npos, [&] {
        return std::string(where) + ": byte " + std::to_string(text.find('\0') + 1) + " of the JSON is NUL";
    });
    expects<bad_snapshot>(!text.starts_with("\xef\xbb\xbf"), [&] {
        return std::string(where) + ": the JSON begins with a byte order mark";
    });
    detail::json_builder builder(where, limits);
    nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
    return builder.take();
}

/// The value in a few words, for a sentence.
inline std::string json_value::brief() const {
    struct {
        std::string operator()(std::nullptr_t) const { return "null"; }
        std::string operator()(bool b) const { return b ? "true" : "false"; }
        std::string operator()(std::uint64_t n) const { return std::to_string(n); }
        std::string operator()(std::int64_t n) const { return std::to_string(n); }
        std::string operator()(double x) const {
            std::string out;
            append_json(out, x);
            return out.find_first_of(".e") == std::string::npos ? out + ".0" : out;
        }
        std::string operator()(const std::string& text) const { return quoted_json(text); }
        std::string operator()(const list& all) const { return "a list of " + std::to_string(all.size()); }
        std::string operator()(const object& all) const { return "an object of " + std::to_string(all.size()); }
    } const words;
    return std::visit(words, value_);
}

template <class T>
const T& json_value::get(std::string_view where, const char* expected) const {
    const T* value = std::get_if<T>(&value_);
    expects<bad_snapshot>(value, [&] { return std::string(where) + ": expected " + expected + ", came " + brief(); });
    return *value;
}

inline const std::string& json_value::text(std::string_view where) const { return get<std::string>(where, "a string"); }
inline bool json_value::boolean(std::string_view where) const { return get<bool>(where, "true or false"); }
inline const json_value::list& json_value::items(std::string_view where) const { return get<list>(where, "a list"); }
inline const json_value::object& json_value::members(std::string_view where) const { return get<object>(where, "an object"); }

inline std::uint64_t json_value::natural(std::string_view where, std::uint64_t largest) const {
    const auto* value = std::get_if<std::uint64_t>(&value_);
    expects<bad_snapshot>(value && *value <= largest, [&] {
        return std::string(where) + ": expected an integer from 0 to " + std::to_string(largest) + ", came " + brief();
    });
    return *value;
}

inline std::int64_t json_value::integer(std::string_view where) const {
    if (const auto* negative = std::get_if<std::int64_t>(&value_)) return *negative;
    return static_cast<std::int64_t>(natural(where, std::numeric_limits<std::int64_t>::max()));
}

inline double json_value::real(std::string_view where) const {
    if (const auto* value = std::get_if<double>(&value_)) return *value;
    // Beyond 2^53 a double skips integers; one which it holds is still taken.
    const auto* positive = std::get_if<std::uint64_t>(&value_);
    const auto* negative = std::get_if<std::int64_t>(&value_);
    const double value = positive ? static_cast<double>(*positive) : negative ? static_cast<double>(*negative) : 0.0;
    const bool exact = (positive && value < 0x1p64 && static_cast<std::uint64_t>(value) == *positive) ||
                       (negative && static_cast<std::int64_t>(value) == *negative);
    expects<bad_snapshot>(exact, [&] {
        return std::string(where) + ": expected a number that a double holds, came " + brief();
    });
    return value;
}

inline const json_value* json_value::find(std::string_view name) const {
    const auto* all = std::get_if<object>(&value_);
    if (!all) return nullptr;
    for (const json_member& member : *all)
        if (member.name == name) return &member.value;
    return nullptr;
}

inline void append_json(std::string& out, std::string_view text) {
    expects(is_utf8(text), [&] { return "JSON takes UTF-8 text; this is none: " + quoted_json(text); });
    out += '"';
    detail::append_escaped(out, text);
    out += '"';
}

template <std::floating_point T>
void append_json(std::string& out, T value) {
    if (std::isnan(value)) {
        out += "\"NaN\"";
    } else if (std::isinf(value)) {
        out += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    } else {
        const double x = static_cast<double>(value);
        char digits[64];
        // The shortest form of a large number may be plain digits, which would read as an integer of more than 64 bits.
        const auto end = std::abs(x) < 0x1p53 ? std::to_chars(digits, digits + sizeof digits, x)
                                              : std::to_chars(digits, digits + sizeof digits, x, std::chars_format::scientific);
        out.append(digits, end.ptr);
    }
}

template <std::integral T>
void append_json(std::string& out, T value) {
    if constexpr (std::same_as<T, bool>) out += value ? "true" : "false";
    else out += std::to_string(value);
}

inline std::string quoted_json(std::string_view text) {
    const bool whole = text.size() <= 80;
    if (!whole) text = text.substr(0, 80);
    std::string out = "\"";
    detail::append_escaped(out, text);
    // Bytes which are no character (a cut one among them) must not reach a terminal.
    if (!is_utf8(out))
        for (char& c : out)
            if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    return out + (whole ? "\"" : "\"...");
}

}  // namespace longspan
