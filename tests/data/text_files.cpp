// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <chrono>
#include <fstream>

#include <unistd.h>

#include <longspan/data/split.hpp>
#include <longspan/data/text_files.hpp>

namespace ls = longspan;
namespace fs = std::filesystem;
using ls::index;

namespace {

/// A folder of this test's own, gone when the test is over.
struct scratch_folder {
    fs::path path = fs::temp_directory_path() / ("longspan_text_files_" + std::to_string(::getpid()));
    scratch_folder() {
        fs::remove_all(path);
        fs::create_directories(path);
    }
    ~scratch_folder() { fs::remove_all(path); }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;

    fs::path write(const fs::path& name, std::string_view text) const {
        fs::create_directories((path / name).parent_path());
        std::ofstream(path / name, std::ios::binary) << text;
        return path / name;
    }
};

std::string text_of(const ls::text_files& files, index i) {
    std::vector<ls::token_id> ids(static_cast<std::size_t>(files.size(i)));
    files.read(i, 0, ids);
    return ls::byte_tokens::decode(ids);
}

/// The sentence that a corpus is refused with.
std::string refusal(const std::vector<fs::path>& roots) {
    try {
        const ls::text_files files(roots);
        return "";
    } catch (const ls::bad_corpus& refused) {
        return refused.what();
    }
}

const std::string_view binary("\x7f" "ELF\0\0\0", 7);

}  // namespace

TEST_CASE("text_files: folders are walked in full, sorted by name, wherever they lie") {
    const scratch_folder here;
    for (const char* root : {"one", "elsewhere/one"}) {
        here.write(fs::path(root) / "b.txt", "bee");
        here.write(fs::path(root) / "a" / "z.txt", "zed");
        here.write(fs::path(root) / "a.txt", "\xc3\xa4");
    }
    const ls::text_files files(here.path / "one" / "");
    REQUIRE(files.count() == 3);
    CHECK(files.name(0) == "one/a.txt");
    CHECK(files.name(1) == "one/a/z.txt");
    CHECK(files.name(2) == "one/b.txt");
    CHECK(text_of(files, 0) == "\xc3\xa4");
    CHECK(text_of(files, 1) == "zed");
    CHECK(files.digest(2) == ls::hash64("bee"));
    CHECK(files.vocabulary() == 256);
    CHECK(ls::fingerprint(ls::text_files(here.path / "elsewhere" / "one")) == ls::fingerprint(files));
    CHECK(ls::describe(files.report()) == "3 files, 8 bytes");
}

TEST_CASE("text_files: what is reached twice counts once, and the order of arguments does not matter") {
    const scratch_folder here;
    const fs::path a = here.write("one/a.txt", "aaa"), b = here.write("two/b.txt", "bbb");
    fs::create_symlink(a, here.path / "two" / "link.txt");
    const ls::text_files files{here.path / "one", here.path / "two", a};
    CHECK(files.count() == 2);
    CHECK(files.report().repeated == 2);
    CHECK(ls::describe(files.report()) == "2 files, 6 bytes (skipped: 2 reached twice)");
    CHECK(ls::fingerprint(ls::text_files{a, here.path / "two", here.path / "one"}) == ls::fingerprint(files));
}

TEST_CASE("text_files: inside a folder, what is no text is skipped and counted") {
    const scratch_folder here;
    here.write("all/good.txt", "good");
    here.write("all/program", binary);
    here.write("all/latin.bin", "\xff\xfe\xfd");
    here.write("all/empty", "");
    here.write("all/.git/config", "text");
    here.write("all/.hidden", "text");
    here.write("linked/other.txt", "other");
    fs::create_directory_symlink(here.path / "linked", here.path / "all" / "folder_link");
    fs::create_symlink(here.path / "nowhere", here.path / "all" / "dangling");
    const ls::text_files files(here.path / "all");
    CHECK(files.count() == 1);
    CHECK(ls::describe(files.report()) == "1 file, 4 bytes (skipped: 2 binary, 1 empty, 2 hidden, 2 no files)");
}

TEST_CASE("text_files: a long file is hashed and read block by block") {
    const scratch_folder here;
    std::string text;
    for (int i = 0; i < 30000; ++i) text += std::to_string(i) + '\n';
    const fs::path path = here.write("long.txt", text);
    const ls::text_files files(path);
    CHECK(files.size(0) == static_cast<index>(text.size()));
    CHECK(files.digest(0) == ls::hash64(text));
    CHECK(text_of(files, 0) == text);
    std::vector<ls::token_id> some(1000);
    files.read(0, 65000, some);
    CHECK(ls::byte_tokens::decode(some) == text.substr(65000, 1000));
    CHECK_THROWS_AS(files.read(0, files.size(0) - 999, some), ls::bad_argument);
    CHECK_THROWS_AS(files.read(0, -1, some), ls::bad_argument);
}

TEST_CASE("text_files: a part is a corpus, and a split is by file") {
    const scratch_folder here;
    for (int i = 0; i < 20; ++i) here.write("c/" + std::to_string(i), "text " + std::to_string(i));
    const auto [train, held_out] = ls::split(ls::text_files(here.path / "c"));
    CHECK(train.report().files == 18);
    CHECK(held_out.report().files == 2);
    CHECK(train.report().bytes + held_out.report().bytes == 10 * 6 + 10 * 7);
    CHECK(text_of(held_out, 0) == "text " + held_out.name(0).substr(2));
}

TEST_CASE("text_files: a file that changes during a run is noticed, one that is touched is not minded") {
    const scratch_folder here;
    const fs::path path = here.write("a.txt", "first text");
    const ls::text_files files(path);
    const fs::file_time_type written = fs::last_write_time(path);
    fs::last_write_time(path, written + std::chrono::hours(1));
    CHECK(text_of(files, 0) == "first text");
    const std::string sentence =
        "A corpus must stay as it is during a run; \"" + fs::canonical(path).string() +
        "\" had 10 bytes at the start and has changed, shrunk or gone since.";
    here.write("a.txt", "other text");
    fs::last_write_time(path, written + std::chrono::hours(2));
    CHECK_THROWS_WITH_AS((void)text_of(files, 0), sentence.c_str(), ls::bad_corpus);
    here.write("a.txt", "first");
    fs::last_write_time(path, written);  // whoever hides a change of the time does not hide the length
    CHECK_THROWS_WITH_AS((void)text_of(files, 0), sentence.c_str(), ls::bad_corpus);
    fs::remove(path);
    CHECK_THROWS_WITH_AS((void)text_of(files, 0), sentence.c_str(), ls::bad_corpus);
}

TEST_CASE("text_files: what a person names and cannot be used is refused with a sentence") {
    const scratch_folder here;
    const auto named = [&](const fs::path& path) { return "\"" + path.string() + "\""; };
    CHECK(refusal({}) == "A corpus needs at least one file or folder; none was named.");
    CHECK(refusal({here.path / "nothing"}) ==
          "A corpus is made of files and folders; " + named(here.path / "nothing") + " does not exist.");
    CHECK(refusal({"/dev/null"}) == "A corpus is made of files and folders; \"/dev/null\" is neither.");

    const fs::path empty = here.write("a/empty.txt", "");
    CHECK(refusal({empty}) == "A corpus needs files with text in them; " + named(empty) + " is empty.");
    CHECK(refusal({here.path / "a"}) ==
          "A corpus needs at least one file of text; there is none in " + named(here.path / "a") + " (skipped: 1 empty).");
    fs::create_directory(here.path / "bare");
    CHECK(refusal({here.path / "bare"}) ==
          "A corpus needs at least one file of text; there is none in " + named(here.path / "bare") + ", which is empty.");

    const fs::path program = here.write("b/program", binary);
    CHECK(refusal({program}) ==
          "A corpus needs UTF-8 text; of the 7 bytes of " + named(program) + ", 3 are NUL: it looks binary.");
    const fs::path noise = here.write("b/noise", "\xff\xfe" "abc");
    CHECK(refusal({noise}) == "A corpus needs UTF-8 text; of the 5 bytes of " + named(noise) +
                                  ", 2 belong to no character (one in 10 is let through): it looks like UTF-16, convert it first.");
    CHECK(refusal({here.path / "b"}) ==
          "A corpus needs at least one file of text; there is none in " + named(here.path / "b") + " (skipped: 2 binary).");
}

TEST_CASE("text_files: what may not be read is refused, inside a folder too") {
    const scratch_folder here;
    const fs::path secret = here.write("c/secret.txt", "text");
    here.write("c/open.txt", "text");
    fs::permissions(secret, fs::perms::none);
    const bool root = ::geteuid() == 0;
    if (root && ::seteuid(65534) != 0) return;  // for root every file is readable, so be nobody for a moment
    const std::string file = refusal({secret}), folder = refusal({here.path / "c"});
    fs::path locked = here.path / "c";
    if (root) REQUIRE(::seteuid(0) == 0);
    const std::string sentence = "A corpus needs files that can be read; \"" + fs::canonical(secret).string() +
                                 "\" cannot be (permissions, or a failing disk).";
    CHECK(file == sentence);
    CHECK(folder == sentence);

    fs::permissions(locked, fs::perms::none);
    if (root && ::seteuid(65534) != 0) return;
    const std::string closed = refusal({locked}), beneath = refusal({locked / "open.txt"});
    if (root) REQUIRE(::seteuid(0) == 0);
    fs::permissions(locked, fs::perms::owner_all);
    CHECK(closed.starts_with("A corpus needs folders that can be read; \"" + locked.string() + "\" cannot be: "));
    CHECK(beneath == "A corpus is made of files and folders; \"" + (locked / "open.txt").string() +
                         "\" cannot be looked at: Permission denied.");
}
