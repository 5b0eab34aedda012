// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include <fcntl.h>
#include <termios.h>

#include <longspan/train/status_line.hpp>

#include "scratch.hpp"

namespace ls = longspan;

namespace {

constexpr ls::run_status full{.step = 1204, .steps = 5000, .loss = 1.63214, .bits_per_byte = 2.3551, .tokens_per_second = 10233.6,
                              .planned = 160 * ls::MiB, .measured = 154 * ls::MiB, .seconds_left = 151};

/// A terminal of our own, as wide as we like: what is written to it, and what a person would see.
struct terminal {
    int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    std::FILE* out = nullptr;

    explicit terminal(unsigned short columns) {
        REQUIRE(master >= 0);
        REQUIRE(::grantpt(master) == 0);
        REQUIRE(::unlockpt(master) == 0);
        const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
        REQUIRE(slave >= 0);
        termios raw{};
        ::tcgetattr(slave, &raw);
        ::cfmakeraw(&raw);
        ::tcsetattr(slave, TCSANOW, &raw);
        out = ::fdopen(slave, "w");
        resize(columns);
    }
    ~terminal() {
        std::fclose(out);
        ::close(master);
    }
    terminal(const terminal&) = delete;
    terminal& operator=(const terminal&) = delete;

    void resize(unsigned short columns) {
        const winsize size{24, columns, 0, 0};
        REQUIRE(::ioctl(master, TIOCSWINSZ, &size) == 0);
    }
    std::string written() const {
        std::string all;
        char block[512];
        for (ssize_t n; (n = ::read(master, block, sizeof block)) > 0;) all.append(block, static_cast<std::size_t>(n));
        return all;
    }
};

/// The lines that a person would see of what was written.
std::vector<std::string> screen(const std::string& written) {
    std::vector<std::string> lines(1);
    std::size_t column = 0;
    for (const char c : written) {
        std::string& line = lines.back();
        if (c == '\r') column = 0;
        else if (c == '\n') lines.emplace_back(), column = 0;
        else {
            line.resize(std::max(line.size(), column + 1), ' ');
            line[column++] = c;
        }
    }
    for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
    return lines;
}

}  // namespace

TEST_CASE("status_line: all there is to say, and only what is known") {
    CHECK(ls::describe(full) == "step 1,204/5,000  loss 1.6321  2.355 bits/byte  10,234 tokens/s  memory 154.0 of 160.0 MiB planned  2:31 left");
    CHECK(ls::describe(ls::run_status{.step = 3}) == "step 3");
    CHECK(ls::describe(ls::run_status{.step = 3, .loss = -HUGE_VAL, .planned = 3 * ls::MiB / 2}) == "step 3  loss -inf  memory 1.5 MiB planned");
    CHECK(ls::describe(ls::run_status{.loss = 1e300, .measured = ls::MiB}) == "step 0  loss 1.0000e+300  memory 1.0 MiB");
}

TEST_CASE("status_line: the phase stands first, goes before the time left does, and is kept until it is shown") {
    ls::run_status status = full;
    status.phase = "short";
    CHECK(ls::describe(status) == "short  " + ls::describe(full));
    CHECK(ls::describe(status, 46) == "step 1,204/5,000  loss 1.6321  2:31 left");
    CHECK(ls::describe(status, 47) == "short  step 1,204/5,000  loss 1.6321  2:31 left");
    const scratch::folder here("status_line");
    std::FILE* const out = std::fopen((here / "log").c_str(), "w");
    {
        ls::status_line line(out);
        line.update({.step = 1}, 0);
        std::string held_out(40, 'h');
        line.update({.phase = held_out, .step = 2}, 1);
        held_out.assign(40, 'x');
    }
    std::fclose(out);
    CHECK(scratch::contents(here / "log") == "step 1\n" + std::string(40, 'h') + "  step 2\n");
}

TEST_CASE("status_line: what matters least goes first, and no line is wider than it may be") {
    CHECK(ls::describe(full, 80) == "step 1,204/5,000  loss 1.6321  2.355 bits/byte  10,234 tokens/s  2:31 left");
    CHECK(ls::describe(full, 60) == "step 1,204/5,000  loss 1.6321  2.355 bits/byte  2:31 left");
    CHECK(ls::describe(full, 50) == "step 1,204/5,000  loss 1.6321  2:31 left");
    CHECK(ls::describe(full, 30) == "step 1,204/5,000  loss 1.6321");
    CHECK(ls::describe(full, 20) == "step 1,204/5,000");
    CHECK(ls::describe(full, 6) == "step 1");
    for (ls::index columns = -1; columns < 140; ++columns)
        CHECK(static_cast<ls::index>(ls::describe(full, columns).size()) <= std::max<ls::index>(columns, 0));
}

TEST_CASE("status_line: times as a clock shows them") {
    CHECK(ls::describe_seconds(0.4) == "0:00");
    CHECK(ls::describe_seconds(59.6) == "1:00");
    CHECK(ls::describe_seconds(151) == "2:31");
    CHECK(ls::describe_seconds(3600 + 151) == "1:02:31");
    CHECK(ls::describe_seconds(3 * 86400 + 4 * 3600 + 600) == "3 d 04:10:00");
    CHECK(ls::describe_seconds(HUGE_VAL) == "?");
    CHECK(ls::describe_seconds(-1) == "?");
}

TEST_CASE("status_line: on a terminal, one line in place, whatever its length and the terminal's") {
    const terminal t(80);
    {
        ls::status_line line(t.out);
        CHECK(line.live());
        ls::run_status status = full;
        line.update(status, 0);
        CHECK(t.written() == "\r" + ls::describe(status, 79));
        status.step = 7;  // a shorter line blanks out the rest of the longer one
        line.update(status, 1);
        const std::string blanked = t.written();
        CHECK(blanked == "\r" + ls::describe(status, 79) + "    ");
        line.update(status, 1.05);  // too soon
        CHECK(t.written() == "");
    }
    CHECK(t.written() == "\r" + ls::describe(ls::run_status{.step = 7, .steps = 5000, .loss = 1.63214, .bits_per_byte = 2.3551,
                                                            .tokens_per_second = 10233.6, .seconds_left = 151}, 79) + "\n");
}

TEST_CASE("status_line: a terminal that is made narrower gets a narrower line; full width is never used") {
    terminal t(40);
    ls::status_line line(t.out, {.live_every = 0});
    for (unsigned short columns = 100; columns >= 5; columns = static_cast<unsigned short>(columns - 1)) {
        t.resize(columns);
        line.update(full, 0);
        CHECK(t.written().size() <= 1u + columns - 1u);  // blanks included: they would wrap as well
    }
}

TEST_CASE("status_line: what is said stands above the live line") {
    const terminal t(80);
    ls::status_line line(t.out);
    line.say("before");
    line.update({.step = 1000, .loss = 2}, 0);
    line.say("saved");
    const std::string until_saved = t.written();
    CHECK(screen(until_saved) == std::vector<std::string>{"before", "saved", "step 1,000  loss 2.0000"});
    line.update({.step = 8}, 1);
    line.finish();
    line.finish();
    line.say("after");
    CHECK(screen(until_saved + t.written()) == std::vector<std::string>{"before", "saved", "step 8", "after", ""});
}

TEST_CASE("status_line: elsewhere, a plain line every so many seconds, and the last one") {
    const scratch::folder here("status_line");
    std::FILE* const out = std::fopen((here / "log").c_str(), "w");
    {
        ls::status_line line(out, {.plain_every = 10});
        CHECK_FALSE(line.live());
        for (int n = 0; n <= 25; ++n) line.update({.step = n}, n);
        line.say("saved");
    }
    std::fclose(out);
    CHECK(scratch::contents(here / "log") == "step 0\nstep 10\nstep 20\nsaved\nstep 25\n");
}

TEST_CASE("status_line: a stream that takes nothing does not end the run; the clock goes forward") {
    std::FILE* const full_disk = std::fopen("/dev/full", "w");
    REQUIRE(full_disk);
    {
        ls::status_line line(full_disk, {.plain_every = 0});
        line.update(full);
        line.update(full);
    }
    std::fclose(full_disk);
    const double before = ls::status_line::now();
    CHECK(ls::status_line::now() >= before);
}
