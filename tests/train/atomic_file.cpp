// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <longspan/train/atomic_file.hpp>

#include "scratch.hpp"

namespace ls = longspan;
namespace fs = std::filesystem;

namespace {

template <class F>
std::string failure(F&& f) {
    return scratch::sentence_of<ls::write_failed>(f);
}

/// Runs f as a user who is not root, for whom permissions hold; false if that cannot be.
template <class F>
bool as_nobody(F&& f) {
    if (::geteuid() != 0) return f(), true;
    if (::seteuid(65534) != 0) return false;
    f();
    return ::seteuid(0) == 0;
}

}  // namespace

TEST_CASE("atomic_file: the name leads to the old bytes until commit, and to the new ones after it") {
    const scratch::folder here("atomic_file");
    const std::string path = here / "a.bin";
    scratch::put(path, "old");
    {
        ls::atomic_file file(path);
        file.write("ne");
        file.write("w bytes");
        CHECK(scratch::contents(path) == "old");
        CHECK(here.entries() == 2);
        file.commit();
        CHECK(file.written() == 9);
        CHECK(scratch::contents(path) == "new bytes");
    }
    CHECK(scratch::contents(path) == "new bytes");
    CHECK(here.entries() == 1);
    ls::write_atomically(here / "b.bin", "");
    CHECK(fs::file_size(here / "b.bin") == 0);
    CHECK(here.entries() == 2);
}

TEST_CASE("atomic_file: without commit nothing has happened") {
    const scratch::folder here("atomic_file");
    { ls::atomic_file(here / "a.bin").write("half"); }
    CHECK(here.entries() == 0);
}

TEST_CASE("atomic_file: a disk that fills up while saving leaves the old file and no temporary") {
    const scratch::folder here("atomic_file");
    const std::string path = here / "a.bin", old(3000, 'o');
    scratch::put(path, old);
    const std::string sentence = failure([&] {
        const scratch::file_size_limit limit(10'000);
        ls::atomic_file file(path, 20'000);
        file.write(std::string(8'000, 'n'));
        file.write(std::string(12'000, 'n'));
        file.commit();
    });
    CHECK(sentence == "saving \"" + path + "\" (10000 of 20000 bytes written): the disk took no more: File too large; " +
                          "nothing that was there before has changed");
    CHECK(scratch::contents(path) == old);
    CHECK(here.entries() == 1);
}

TEST_CASE("atomic_file: a missing folder, and a folder that may not be written to") {
    const scratch::folder here("atomic_file");
    CHECK(failure([&] { ls::atomic_file(here / "nowhere/a.bin", 7); }) ==
          "saving \"" + (here / "nowhere/a.bin") + "\" (0 of 7 bytes written): no file can be created in that folder: " +
              "No such file or directory; nothing that was there before has changed");
    const std::string path = here / "a.bin";
    scratch::put(path, "old");
    fs::permissions(here.path, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
    std::string sentence;
    if (as_nobody([&] { sentence = failure([&] { ls::write_atomically(path, "new"); }); }))
        CHECK(sentence.ends_with("no file can be created in that folder: Permission denied; nothing that was there before has changed"));
    fs::permissions(here.path, fs::perms::owner_all);
    CHECK(scratch::contents(path) == "old");
    CHECK(here.entries() == 1);
}

TEST_CASE("atomic_file: what is no file is refused, not replaced") {
    const scratch::folder here("atomic_file");
    fs::create_directory(here / "folder");
    CHECK(failure([&] { ls::write_atomically(here / "folder", "x"); }) ==
          "saving \"" + (here / "folder") + "\" (0 of 1 bytes written): the name of a file was expected; a folder has that name; " +
              "nothing that was there before has changed");
    REQUIRE(::mkfifo((here / "pipe").c_str(), 0600) == 0);
    CHECK(failure([&] { ls::write_atomically(here / "pipe", "x"); }).find("a pipe or device has that name") != std::string::npos);
    CHECK(fs::is_fifo(here / "pipe"));
    CHECK(here.entries() == 2);
}

TEST_CASE("atomic_file: a link stays a link, and the file behind it is replaced; permissions stay") {
    const scratch::folder here("atomic_file");
    scratch::put(here / "run7.bin", "old");
    fs::permissions(here / "run7.bin", fs::perms::owner_read | fs::perms::owner_write);
    fs::create_symlink("run7.bin", here / "latest.bin");
    ls::write_atomically(here / "latest.bin", "new");
    CHECK(fs::is_symlink(here / "latest.bin"));
    CHECK(scratch::contents(here / "run7.bin") == "new");
    CHECK(fs::status(here / "run7.bin").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("atomic_file: a name without a folder is in the current one") {
    const scratch::folder here("atomic_file");
    const fs::path before = fs::current_path();
    fs::current_path(here.path);
    ls::write_atomically("a.bin", "x");
    fs::current_path(before);
    CHECK(scratch::contents(here / "a.bin") == "x");
}

TEST_CASE("atomic_file: what a killed process left under the temporary name is neither used nor removed") {
    const scratch::folder here("atomic_file");
    const std::string left = here / ("a.bin.partial-" + std::to_string(::getpid()) + "-0");
    scratch::put(left, "left");
    ls::write_atomically(here / "a.bin", "new");
    CHECK(scratch::contents(here / "a.bin") == "new");
    CHECK(scratch::contents(left) == "left");
}
