// SPDX-License-Identifier: Apache-2.0
//
// What a run wrote down: one JSON object a line (JSON Lines), numbers with the shortest digits that read back as the same
// double, on the disk's side of the program as soon as `line` returns.
//
//     ls::logbook log("run.jsonl");
//     log.line({{"step", n}, {"loss", report.loss}, {"phase", "long"}});
//
// A run that goes on from the snapshot of step n resumes its log at step n: lines beyond it, which the run will write again,
// and a last line that a crash left torn, are cut off. So the log of a resumed run is that of an uninterrupted one.
// Memory: one line. Reference: jsonlines.org. Not reachable from longspan.hpp.
#pragma once

#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include <longspan/train/detail/descriptor.hpp>
#include <longspan/train/json.hpp>

namespace longspan {

/// A truth, an integer, a real, or a text (a view: it must live until `line` returns).
class log_value {
public:
    template <class T>
        requires std::integral<T> || std::floating_point<T> || std::convertible_to<const T&, std::string_view>
    log_value(const T& value) {
        if constexpr (std::same_as<T, bool>) value_ = value;
        else if constexpr (std::signed_integral<T>) value_ = std::int64_t{value};
        else if constexpr (std::integral<T>) value_ = std::uint64_t{value};
        else if constexpr (std::floating_point<T>) value_ = static_cast<double>(value);
        else value_ = std::string_view(value);
    }
    void append_to(std::string& out) const {
        std::visit([&](const auto& value) { append_json(out, value); }, value_);
    }

private:
    std::variant<bool, std::int64_t, std::uint64_t, double, std::string_view> value_;
};

struct log_field {
    std::string_view name;
    log_value value;
};

/// What was found of a log that is resumed.
struct log_history {
    index lines = 0;       ///< kept
    index last_step = -1;  ///< of the lines kept; -1: none has a step
    bytes cut = 0;         ///< bytes cut off
};

/// A log being written. Not for use from several threads. Not finite numbers are written as "NaN", "Infinity", "-Infinity".
class logbook {
public:
    /// Begins a log; what the file held is replaced. Throws write_failed.
    explicit logbook(std::string path);

    /// Goes on with a log (or begins it, where there is none) from the end of `step`: keeps all up to the last line whose "step" is
    /// not beyond it, and the lines before the first one with a step. Throws bad_snapshot, and changes nothing, when a line in
    /// between is no JSON object or its step no integer; write_failed when the file cannot be opened or cut.
    [[nodiscard]] static logbook resume(std::string path, index step);

    /// Appends one line, in one write. Throws write_failed, and leaves no torn line behind; bad_argument for a name twice, or text
    /// that is not UTF-8.
    void line(std::span<const log_field> fields) { write(fields, {}); }
    void line(std::initializer_list<log_field> fields) { line(std::span(fields.begin(), fields.size())); }
    /// The same of two lists, one behind the other.
    void line(std::initializer_list<log_field> fields, std::span<const log_field> more) {
        write(std::span(fields.begin(), fields.size()), more);
    }

    /// Forces what was written to the disk. Before a snapshot is saved, so that the log never ends before the snapshot does.
    void sync();

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const log_history& history() const { return history_; }

private:
    logbook(std::string path, int flags);
    void write(std::span<const log_field> fields, std::span<const log_field> more);
    [[noreturn]] void fail(const char* what, int error) const;
    [[nodiscard]] bytes examine(index step);

    std::string path_, text_;
    detail::descriptor file_;
    bytes size_ = 0;
    log_history history_;
};

}  // namespace longspan

#include <longspan/train/detail/logbook.hpp>
