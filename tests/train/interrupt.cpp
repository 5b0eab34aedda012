// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <longspan/train/interrupt.hpp>

namespace ls = longspan;

namespace {

volatile std::sig_atomic_t seen = 0;
void note(int) { seen = seen + 1; }

/// How a child process that runs f ends: its exit status, or minus the signal that killed it.
template <class F>
int ending_of(F&& f) {
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGTERM, SIG_DFL);
        ::_exit(f());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("interrupt: the first signal sets the flag and nothing else") {
    for (const int number : {SIGINT, SIGTERM}) {
        CHECK(ending_of([&] {
                  const ls::interrupt interrupt;
                  if (ls::interrupt::requested()) return 1;
                  std::raise(number);
                  return interrupt.requested() && interrupt.signal() == number ? 7 : 2;
              }) == 7);
    }
}

TEST_CASE("interrupt: the second one, of either kind, ends the process") {
    for (const int second : {SIGINT, SIGTERM}) {
        CHECK(ending_of([&] {
                  const ls::interrupt interrupt;
                  std::raise(SIGINT);
                  std::raise(second);
                  return 1;
              }) == -second);
    }
}

TEST_CASE("interrupt: handlers from before come back, after a signal too") {
    void (*const before)(int) = std::signal(SIGINT, note);
    seen = 0;
    {
        const ls::interrupt interrupt;
        std::raise(SIGINT);
        CHECK(seen == 0);
        CHECK(ls::interrupt::requested());
    }
    CHECK(ls::interrupt::requested());  // who asks after its end still learns of it
    std::raise(SIGINT);
    CHECK(seen == 1);
    {
        const ls::interrupt next;
        CHECK_FALSE(ls::interrupt::requested());
    }
    std::signal(SIGINT, before);
}

TEST_CASE("interrupt: a signal that was ignored stays ignored") {
    CHECK(ending_of([] {
              std::signal(SIGINT, SIG_IGN);
              const ls::interrupt interrupt;
              std::raise(SIGINT);
              std::raise(SIGINT);
              return interrupt.requested() ? 1 : 7;
          }) == 7);
    CHECK(ending_of([] {  // also after one that was not
              std::signal(SIGINT, SIG_IGN);
              const ls::interrupt interrupt;
              std::raise(SIGTERM);
              std::raise(SIGINT);
              return interrupt.signal() == SIGTERM ? 7 : 1;
          }) == 7);
}

TEST_CASE("interrupt: there is one at a time") {
    const ls::interrupt first;
    CHECK_THROWS_AS(ls::interrupt(), ls::bad_argument);
    CHECK_FALSE(ls::interrupt::requested());
}
