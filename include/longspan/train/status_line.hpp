// SPDX-License-Identifier: Apache-2.0
//
// Where a run stands, for a person who looks: on a terminal one line that is written over in place, elsewhere (a file, a pipe)
// a plain line every so many seconds. The line is as wide as the terminal at most: fields that matter least go first, so it
// never wraps and never scrolls. Each redraw is one write that begins with a carriage return and blanks out what was longer:
// no flicker, and no escape sequences, so any terminal will do.
//
//     ls::status_line line(stdout);
//     line.update({.step = n, .steps = 1000, .loss = x, ...});
//
// A terminal that went away is no reason to end a run: errors of the stream are not looked at.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>

#include <longspan/core/types.hpp>

namespace longspan {

/// What a run says of itself. Numbers that are not known yet (0, or not finite where it says so) are left out.
struct run_status {
    static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    std::string_view phase = {};        ///< "short", "held out"; empty: left out. Copied by update()
    index step = 0;
    index steps = 0;                    ///< in all; 0: no end is set
    double loss = unknown;              ///< nats a token; NaN is left out, an infinite one shown
    double bits_per_byte = unknown;
    double tokens_per_second = unknown;
    bytes planned = 0, measured = 0;    ///< memory of a step: the plan, and the high-water mark
    double seconds_left = unknown;
};

/// "short  step 1,204/5,000  loss 1.6321  2.355 bits/byte  10,234 tokens/s  memory 154.2 of 160.0 MiB planned  2:31 left", in at most
/// `columns` characters: fields are left out from the least important on.
[[nodiscard]] std::string describe(const run_status& status, index columns = 1000);

/// "0:07", "2:31", "1:02:31", "3 d 04:10:00".
[[nodiscard]] std::string describe_seconds(double seconds);

struct status_options {
    double plain_every = 10;  ///< seconds between plain lines
    double live_every = 0.1;  ///< seconds between redraws: faster than a person reads, slower than it costs
};

/// Draws on a stream that belongs to the caller. Not for use from several threads.
class status_line {
public:
    explicit status_line(std::FILE* out, status_options options = {});
    status_line(const status_line&) = delete;
    status_line& operator=(const status_line&) = delete;
    ~status_line() { finish(); }

    /// Shows a status, if it is time for it; the last one is shown in any case, by `finish`.
    void update(const run_status& status) { update(status, now()); }
    /// The same at a time of the caller's, in seconds from anywhere.
    void update(const run_status& status, double seconds);
    /// Writes a line of its own, above the live one.
    void say(std::string_view text);
    /// Shows the last status and ends its line; a later update begins another.
    void finish();

    /// Whether the stream is a terminal.
    [[nodiscard]] bool live() const { return live_; }
    /// Seconds of a clock that only goes forward.
    [[nodiscard]] static double now();

private:
    void draw();
    void write(std::string_view text);
    [[nodiscard]] index columns() const;

    std::FILE* out_;
    status_options options_;
    bool live_, pending_ = false;
    run_status status_;
    std::string phase_;  // what status_.phase looks at
    double drawn_at_ = -std::numeric_limits<double>::infinity();
    index drawn_columns_ = 0;  // of the live line as it stands there; 0: none
};

}  // namespace longspan

#include <longspan/train/detail/status_line.hpp>
