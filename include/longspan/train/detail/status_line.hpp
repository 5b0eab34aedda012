// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/status_line.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>

#include <sys/ioctl.h>
#include <unistd.h>

#include <longspan/data/detail/grouped.hpp>
#include <longspan/train/status_line.hpp>

namespace longspan {

namespace detail {

/// A number with this many decimals; what is too large or not finite as to_chars has it.
[[nodiscard]] inline std::string fixed(double value, int decimals) {
    char digits[64];
    const auto form = std::abs(value) < 1e12 ? std::chars_format::fixed : std::chars_format::scientific;
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, value, form, decimals).ptr);
}

}  // namespace detail

inline std::string describe_seconds(double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) return "?";
    const auto whole = static_cast<index>(std::llround(seconds));
    const auto two = [](index n) { return (n < 10 ? "0" : "") + std::to_string(n); };
    const index days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
    const std::string tail = two(whole % 60);
    if (days > 0) return std::to_string(days) + " d " + two(hours) + ":" + two(minutes) + ":" + tail;
    if (hours > 0) return std::to_string(hours) + ":" + two(minutes) + ":" + tail;
    return std::to_string(minutes) + ":" + tail;
}

inline std::string describe(const run_status& s, index columns) {
    enum field { phase, step, loss, bits, speed, memory, left, fields };
    std::array<std::string, fields> text;
    text[phase] = s.phase;
    text[step] = "step " + detail::grouped(s.step) + (s.steps > 0 ? "/" + detail::grouped(s.steps) : std::string());
    if (!std::isnan(s.loss)) text[loss] = "loss " + detail::fixed(s.loss, 4);
    if (!std::isnan(s.bits_per_byte)) text[bits] = detail::fixed(s.bits_per_byte, 3) + " bits/byte";
    if (s.tokens_per_second >= 0 && s.tokens_per_second < 1e15)
        text[speed] = detail::grouped(static_cast<index>(std::llround(s.tokens_per_second))) + " tokens/s";
    const auto mebibytes = [](bytes n) { return detail::fixed(static_cast<double>(n) / static_cast<double>(MiB), 1); };
    if (s.planned > 0)
        text[memory] = "memory " + (s.measured > 0 ? mebibytes(s.measured) + " of " : std::string()) + mebibytes(s.planned) + " MiB planned";
    else if (s.measured > 0) text[memory] = "memory " + mebibytes(s.measured) + " MiB";
    if (s.seconds_left >= 0) text[left] = describe_seconds(s.seconds_left) + " left";

    const auto joined = [&] {
        std::string line;
        for (const std::string& part : text)
            if (!part.empty()) line += (line.empty() ? "" : "  ") + part;
        return line;
    };
    std::string line = joined();
    for (const field least : {memory, speed, bits, phase, left, loss}) {
        if (static_cast<index>(line.size()) <= columns) return line;
        text[least].clear();
        line = joined();
    }
    return line.substr(0, static_cast<std::size_t>(columns > 0 ? columns : 0));
}

inline status_line::status_line(std::FILE* out, status_options options)
    : out_(out), options_(options), live_(::isatty(::fileno(out)) == 1) {}

inline double status_line::now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline void status_line::update(const run_status& status, double seconds) {
    phase_ = status.phase;
    status_ = status;
    status_.phase = phase_;
    pending_ = true;
    if (seconds - drawn_at_ < (live_ ? options_.live_every : options_.plain_every)) return;
    drawn_at_ = seconds;
    draw();
}

inline void status_line::draw() {
    pending_ = false;
    if (!live_) return write(describe(status_) + "\n");
    // One column stays free: writing into the last one would wrap on some terminals.
    const index most = columns() - 1;
    std::string line = describe(status_, most);
    const auto width = static_cast<index>(line.size());
    const index stale = std::min(drawn_columns_, most);  // the terminal may have become narrower
    if (width < stale) line.append(static_cast<std::size_t>(stale - width), ' ');
    drawn_columns_ = width;
    write("\r" + line);
}

inline void status_line::say(std::string_view text) {
    if (drawn_columns_ > 0) write("\r" + std::string(static_cast<std::size_t>(drawn_columns_), ' ') + "\r");
    const bool redraw = drawn_columns_ > 0;
    drawn_columns_ = 0;
    write(std::string(text) + "\n");
    if (redraw) draw();
}

inline void status_line::finish() {
    if (pending_) draw();
    if (drawn_columns_ > 0) write("\n");
    drawn_columns_ = 0;
}

/// One fwrite and one flush: on a terminal, one write of the system.
inline void status_line::write(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), out_);
    std::fflush(out_);
}

inline index status_line::columns() const {
    winsize size{};
    if (::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    // Asked for only where the terminal does not say; the shell's word for it.
    const char* const text = std::getenv("COLUMNS");
    int columns = 0;
    if (text && std::from_chars(text, text + std::string_view(text).size(), columns).ec == std::errc() && columns > 0) return columns;
    return 80;
}

}  // namespace longspan
