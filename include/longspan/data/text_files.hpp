// SPDX-License-Identifier: Apache-2.0
//
// A corpus on disk: any files and folders, every file a document, read as bytes. Each file is read once at the start, to see
// that it is text and to hash it, and then piece by piece as batches are made: memory is about 200 bytes a file, whatever the
// size of the corpus. The same files make the same corpus on every machine: documents are sorted by name, which is the path
// below the folder that was given, and a file reached in two ways counts once.
//
// What a person names must be usable, so a file given by itself is refused (bad_corpus) if it is missing, empty, unreadable
// or binary. Inside a folder, empty and binary files, hidden ones (".git") and what is no file are skipped, counted and
// reported by `report()`; an unreadable one is refused even there.
//
// Not reachable from longspan.hpp: <filesystem> and <fstream> would add a quarter of a second to every file that includes it.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/data/document_source.hpp>
#include <longspan/data/text_check.hpp>

namespace longspan {

/// What a corpus was made of.
struct corpus_report {
    index files = 0;        ///< documents of the corpus
    index bytes = 0;        ///< their bytes
    index binary = 0;       ///< skipped: no text (see data/text_check.hpp)
    index empty = 0;        ///< skipped: no byte
    index hidden = 0;       ///< skipped: files and folders with a name that begins with a dot
    index not_files = 0;    ///< skipped: links to folders, dangling links, pipes, devices
    index repeated = 0;     ///< reached a second time, counted once
};

/// "478 files, 8,701,254 bytes (skipped: 2 binary, 1 empty)".
[[nodiscard]] std::string describe(const corpus_report& report);

/// A source of byte-level documents on disk. Satisfies selectable_source; `read` may be called from several threads.
class text_files {
public:
    /// Files and folders, in any order. Throws bad_corpus with a sentence when nothing usable is there.
    explicit text_files(const std::vector<std::filesystem::path>& roots);
    text_files(std::initializer_list<std::filesystem::path> roots) : text_files(std::vector(roots)) {}
    explicit text_files(const std::filesystem::path& root) : text_files(std::vector{root}) {}
    explicit text_files(const char* root) : text_files(std::filesystem::path(root)) {}

    [[nodiscard]] index count() const { return static_cast<index>(files_.size()); }
    [[nodiscard]] index size(index i) const { return file(i).size; }
    [[nodiscard]] const std::string& name(index i) const { return file(i).name; }
    [[nodiscard]] std::uint64_t digest(index i) const { return file(i).digest; }
    [[nodiscard]] const std::filesystem::path& path(index i) const { return file(i).path; }
    [[nodiscard]] static constexpr index vocabulary() { return byte_tokens::vocabulary; }
    [[nodiscard]] const corpus_report& report() const { return report_; }

    /// Bytes [first, first + out.size()) of file i. Throws bad_corpus if the file is no longer what it was at the start.
    void read(index i, index first, std::span<token_id> out) const;

    /// The files with these ordinals as a corpus of their own (its report counts those files, and nothing skipped).
    [[nodiscard]] text_files select(std::span<const index> ordinals) const;

private:
    struct record {
        std::string name;
        std::filesystem::path path;
        std::filesystem::file_time_type written;
        index size = 0;
        std::uint64_t digest = 0;
    };
    struct examined {
        record file;
        text_check text;
        bool two_byte_text = false;  // begins like UTF-16
    };

    text_files() = default;
    [[nodiscard]] const record& file(index i) const { return files_.at(static_cast<std::size_t>(i)); }
    [[nodiscard]] static examined examine(const std::filesystem::path& path, std::string name);
    void add_file(const std::filesystem::path& path);
    void add_folder(const std::filesystem::path& folder);
    void sort_and_count();

    std::vector<record> files_;
    corpus_report report_;
};

}  // namespace longspan

#include <longspan/data/detail/text_files.hpp>
