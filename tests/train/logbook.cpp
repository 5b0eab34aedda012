// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>

#include <longspan/train/logbook.hpp>

#include "scratch.hpp"

namespace ls = longspan;

namespace {

void write_steps(ls::logbook& log, ls::index first, ls::index last) {
    for (ls::index n = first; n <= last; ++n) {
        log.line({{"step", n}, {"loss", 1.0 / static_cast<double>(n)}, {"phase", "short"}});
        if (n % 3 == 0) log.line({{"step", n}, {"held_out", 2.5}});
    }
}

template <class F>
std::string refusal(F&& f) {
    return scratch::sentence_of<ls::bad_snapshot>(f);
}

}  // namespace

TEST_CASE("logbook: one object a line, every field as it is, there as soon as it is written") {
    const scratch::folder here("logbook");
    ls::logbook log(here / "a.jsonl");
    const std::string name = "caf\xc3\xa9 \"x\"";
    log.line({{"step", 1}, {"loss", 0.1}, {"tokens", std::uint64_t{UINT64_MAX}}, {"refused", false}, {"name", name}, {"rate", 1e-5f}, {"n", std::nan("")}});
    CHECK(scratch::contents(here / "a.jsonl") ==
          R"({"step":1,"loss":0.1,"tokens":18446744073709551615,"refused":false,"name":"café \"x\"","rate":9.999999747378752e-06,"n":"NaN"})" "\n");
    log.line({});
    CHECK(scratch::contents(here / "a.jsonl").ends_with("}\n{}\n"));
    CHECK_THROWS_AS(log.line({{"a", 1}, {"b", 1}, {"a", 2}}), ls::bad_argument);
    CHECK_THROWS_AS(log.line({{"a", "\xff"}}), ls::bad_argument);
    CHECK(scratch::contents(here / "a.jsonl").ends_with("}\n{}\n"));
    log.sync();
}

TEST_CASE("logbook: a new log replaces the old one") {
    const scratch::folder here("logbook");
    scratch::put(here / "a", "old\n");
    ls::logbook log(here / "a");
    log.line({{"step", 1}});
    CHECK(scratch::contents(here / "a") == "{\"step\":1}\n");
}

TEST_CASE("logbook: resumed at any step, it becomes what an uninterrupted one is") {
    const scratch::folder here("logbook");
    const std::string path = here / "a";
    {
        ls::logbook log(path);
        log.line({{"seed", 42}});
        log.line({{"model", "decoder"}});
        write_steps(log, 1, 20);
        log.line({{"event", "interrupted"}});
    }
    const std::string interrupted = scratch::contents(path), whole = interrupted.substr(0, interrupted.rfind("{\"event"));
    for (ls::index step = 0; step <= 20; ++step) {
        scratch::put(path, interrupted);
        {
            ls::logbook log = ls::logbook::resume(path, step);
            CHECK(log.history().lines == 2 + step + step / 3);
            CHECK(log.history().last_step == (step == 0 ? -1 : step));
            CHECK(log.history().cut > 0);
            write_steps(log, step + 1, 20);
        }
        CHECK(scratch::contents(path) == whole);
    }
}

TEST_CASE("logbook: a crash may cut the log anywhere behind the snapshot's step") {
    const scratch::folder here("logbook");
    const std::string path = here / "a";
    {
        ls::logbook log(path);
        log.line({{"seed", 42}});
        write_steps(log, 1, 8);
    }
    const std::string whole = scratch::contents(path);
    const std::size_t reached = whole.find("{\"step\":6");
    for (std::size_t n = reached; n <= whole.size(); ++n) {
        scratch::put(path, whole.substr(0, n) + (n % 2 == 0 ? "" : std::string("\0\0\n", 3)));  // as some file systems leave it
        ls::logbook log = ls::logbook::resume(path, 5);
        write_steps(log, 6, 8);
        CHECK(scratch::contents(path) == whole);
    }
}

TEST_CASE("logbook: a log that ends before the snapshot says so, and one that is not there is begun") {
    const scratch::folder here("logbook");
    {
        ls::logbook log(here / "a");
        write_steps(log, 1, 4);
    }
    CHECK(ls::logbook::resume(here / "a", 9).history().last_step == 4);
    CHECK(ls::logbook::resume(here / "b", 9).history().last_step == -1);
    CHECK(scratch::contents(here / "b").empty());
}

TEST_CASE("logbook: more than one block of lines, and a line longer than one") {
    const scratch::folder here("logbook");
    const std::string path = here / "a", text(100'000, 'x');
    {
        ls::logbook log(path);
        log.line({{"text", text}});
        write_steps(log, 1, 3000);
        log.line({{"step", 3001}, {"text", text}});
    }
    const ls::logbook log = ls::logbook::resume(path, 3000);
    CHECK(log.history().lines == 1 + 3000 + 1000);
    CHECK(log.history().cut == 100'000 + 24);
}

TEST_CASE("logbook: what is no log is refused and stays as it is") {
    const scratch::folder here("logbook");
    const std::string path = here / "a";
    const std::string good = "{\"step\":1}\n", named = "the log \"" + path + "\", line 2";
    for (const auto& [bad, sentence] : {std::pair<std::string, std::string>{"hello\n", ": byte 1"}, {"[1]\n", ": expected an object, came a list of 1"},
                                        {"{\"step\":1.5}\n", ", step: expected an integer from 0 to 9223372036854775807, came 1.5"},
                                        {"{\"step\":2,\"step\":3}\n", ": the key \"step\" stands twice in one object"}, {"\n", ": byte 1"}}) {
        const std::string whole = good + bad + "{\"step\":2}\n";
        scratch::put(path, whole);
        CHECK(refusal([&] { (void)ls::logbook::resume(path, 2); }).starts_with(named + sentence));
        CHECK(scratch::contents(path) == whole);
    }
    CHECK(refusal([&] { (void)ls::logbook::resume("/dev/null", 2); }) == "the log \"/dev/null\" is no file: it cannot be gone on with");
}

TEST_CASE("logbook: a full disk, a missing folder, a folder instead of a file") {
    const scratch::folder here("logbook");
    const auto failure = [](auto&& f) { return scratch::sentence_of<ls::write_failed>(f); };
    CHECK(failure([] { ls::logbook("/dev/full").line({{"step", 1}}); }) ==
          "the log \"/dev/full\" (0 bytes so far): a line could not be written: No space left on device");
    CHECK(failure([&] { ls::logbook log(here / "nowhere/a"); }).ends_with("it cannot be opened: No such file or directory"));
    CHECK(failure([&] { ls::logbook log(here.path.string()); }).ends_with("it cannot be opened: Is a directory"));
    CHECK(failure([&] { (void)ls::logbook::resume(here / "nowhere/a", 1); }).ends_with("it cannot be opened: No such file or directory"));

    // The disk fills up amid a line: the lines before it stay, and the next one, once there is room, stands by itself.
    ls::logbook log(here / "a");
    log.line({{"step", 1}});
    std::string sentence;
    {
        const scratch::file_size_limit limit(16);
        sentence = failure([&] { log.line({{"step", 2}, {"loss", 0.5}}); });
    }
    CHECK(sentence == "the log \"" + (here / "a") + "\" (11 bytes so far): a line could not be written: File too large");
    CHECK(scratch::contents(here / "a") == "{\"step\":1}\n");
    log.line({{"step", 3}});
    CHECK(scratch::contents(here / "a") == "{\"step\":1}\n{\"step\":3}\n");

    // Likewise in a log that was cut when it was resumed.
    log.line({{"step", 4}});
    ls::logbook resumed = ls::logbook::resume(here / "a", 3);
    {
        const scratch::file_size_limit limit(30);
        CHECK(failure([&] { resumed.line({{"step", 4}, {"loss", 0.5}}); }) != "");
    }
    CHECK(scratch::contents(here / "a") == "{\"step\":1}\n{\"step\":3}\n");
}
