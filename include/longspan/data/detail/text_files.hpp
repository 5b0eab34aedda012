// SPDX-License-Identifier: Apache-2.0
//
// Bodies of data/text_files.hpp: walking, examining and reading files.
#pragma once

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include <longspan/data/detail/grouped.hpp>
#include <longspan/data/text_files.hpp>

namespace longspan {

namespace detail {

[[nodiscard]] inline std::string quoted(const std::filesystem::path& path) { return "\"" + path.string() + "\""; }

[[nodiscard]] inline std::string skipped(const corpus_report& r) {
    std::string list;
    const auto item = [&](index n, const char* what) {
        if (n > 0) list += (list.empty() ? "" : ", ") + grouped(n) + " " + what;
    };
    item(r.binary, "binary");
    item(r.empty, "empty");
    item(r.hidden, "hidden");
    item(r.not_files, "no files");
    item(r.repeated, "reached twice");
    return list;
}

}  // namespace detail

inline std::string describe(const corpus_report& report) {
    const std::string skipped = detail::skipped(report);
    return detail::grouped(report.files) + (report.files == 1 ? " file, " : " files, ") +
           detail::grouped(report.bytes) + " bytes" + (skipped.empty() ? "" : " (skipped: " + skipped + ")");
}

inline text_files::text_files(const std::vector<std::filesystem::path>& roots) {
    expects<bad_corpus>(!roots.empty(), [] { return "A corpus needs at least one file or folder; none was named."; });
    std::string names;
    for (const std::filesystem::path& root : roots) {
        std::error_code failure;
        const std::filesystem::file_status status = std::filesystem::status(root, failure);
        using enum std::filesystem::file_type;
        expects<bad_corpus>(status.type() != not_found, [&] {
            return "A corpus is made of files and folders; " + detail::quoted(root) + " does not exist.";
        });
        expects<bad_corpus>(status.type() != none, [&] {
            return "A corpus is made of files and folders; " + detail::quoted(root) + " cannot be looked at: " +
                   failure.message() + ".";
        });
        expects<bad_corpus>(status.type() == regular || status.type() == directory, [&] {
            return "A corpus is made of files and folders; " + detail::quoted(root) + " is neither.";
        });
        status.type() == directory ? add_folder(root) : add_file(root);
        names += (names.empty() ? "" : ", ") + detail::quoted(root);
    }
    sort_and_count();
    expects<bad_corpus>(!files_.empty(), [&] {
        const std::string skipped = detail::skipped(report_);
        return "A corpus needs at least one file of text; there is none in " + names +
               (skipped.empty() ? std::string(", which is empty.") : " (skipped: " + skipped + ").");
    });
}

/// Reads the whole file once: its size, its hash, and whether it is text. 64 KiB at a time, a multiple of hash64_block's 8.
inline text_files::examined text_files::examine(const std::filesystem::path& path, std::string name) {
    examined found;
    found.file = {std::move(name), path, {}, 0, 0};
    std::error_code failure;
    found.file.written = std::filesystem::last_write_time(path, failure);
    std::ifstream stream(path, std::ios::binary);
    std::string block(std::size_t{1} << 16, '\0');
    bool readable = stream.is_open();
    while (readable) {
        stream.read(block.data(), static_cast<std::streamsize>(block.size()));
        const std::string_view part(block.data(), static_cast<std::size_t>(stream.gcount()));
        if (found.file.size == 0)
            found.two_byte_text = part.starts_with("\xff\xfe") || part.starts_with("\xfe\xff");
        found.text.add(part);
        found.file.digest = hash64_block(part, found.file.digest);
        found.file.size += static_cast<index>(part.size());
        if (stream.eof()) break;
        readable = stream.good();
    }
    expects<bad_corpus>(readable, [&] {
        return "A corpus needs files that can be read; " + detail::quoted(path) + " cannot be (permissions, or a failing disk).";
    });
    found.file.digest = combine64(found.file.digest, static_cast<std::uint64_t>(found.file.size));
    return found;
}

inline void text_files::add_file(const std::filesystem::path& path) {
    const std::filesystem::path real = std::filesystem::canonical(path);
    examined found = examine(real, path.filename().generic_string());
    expects<bad_corpus>(found.file.size > 0, [&] {
        return "A corpus needs files with text in them; " + detail::quoted(path) + " is empty.";
    });
    expects<bad_corpus>(found.text.is_text(), [&] {
        const text_check& text = found.text;
        return "A corpus needs UTF-8 text; of the " + detail::grouped(text.size()) + " bytes of " + detail::quoted(path) +
               ", " +
               (text.nul_bytes() > 0 ? detail::grouped(text.nul_bytes()) + " are NUL"
                                     : detail::grouped(text.stray_bytes()) + " belong to no character (one in " +
                                           std::to_string(text_check::stray_share) + " is let through)") +
               (found.two_byte_text ? ": it looks like UTF-16, convert it first." : ": it looks binary.");
    });
    files_.push_back(std::move(found.file));
}

inline void text_files::add_folder(const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    try {
        const fs::path real = fs::canonical(folder);
        for (auto entry = fs::recursive_directory_iterator(real); entry != fs::recursive_directory_iterator(); ++entry) {
            if (entry->path().filename().native().starts_with('.')) {
                ++report_.hidden;
                entry.disable_recursion_pending();
                continue;
            }
            std::error_code dangling;
            const fs::file_type type = entry->status(dangling).type();
            if (type == fs::file_type::directory && !entry->is_symlink()) continue;
            if (type != fs::file_type::regular) {
                ++report_.not_files;
                continue;
            }
            examined found = examine(fs::canonical(entry->path()),
                                     (real.filename() / entry->path().lexically_relative(real)).generic_string());
            if (found.file.size == 0) ++report_.empty;
            else if (!found.text.is_text()) ++report_.binary;
            else files_.push_back(std::move(found.file));
        }
    } catch (const fs::filesystem_error& failure) {
        throw bad_corpus("A corpus needs folders that can be read; " + detail::quoted(folder) + " cannot be: " +
                         failure.what() + ".");
    }
}

/// Order by name, then by place; a place that was reached twice counts once, under the name that sorts first.
inline void text_files::sort_and_count() {
    std::sort(files_.begin(), files_.end(), [](const record& a, const record& b) {
        return a.path != b.path ? a.path < b.path : a.name < b.name;
    });
    const auto twice = std::unique(files_.begin(), files_.end(),
                                   [](const record& a, const record& b) { return a.path == b.path; });
    report_.repeated = static_cast<index>(files_.end() - twice);
    files_.erase(twice, files_.end());
    std::sort(files_.begin(), files_.end(), [](const record& a, const record& b) {
        return a.name != b.name ? a.name < b.name : a.path < b.path;
    });
    report_.files = count();
    report_.bytes = total_tokens(*this);
}

inline void text_files::read(index i, index first, std::span<token_id> out) const {
    const record& from = file(i);
    const index wanted = static_cast<index>(out.size());
    expects(first >= 0 && wanted >= 0 && first + wanted <= from.size, [&] {
        return from.name + " has " + std::to_string(from.size) + " bytes; " + std::to_string(wanted) + " from " +
               std::to_string(first) + " on were asked for";
    });
    // A file may be touched, but not changed, while a run goes over it.
    std::error_code failure;
    const bool same = std::filesystem::last_write_time(from.path, failure) == from.written ||
                      (!failure && examine(from.path, from.name).file.digest == from.digest);
    std::ifstream stream(from.path, std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(first));
    std::string text(out.size(), '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    expects<bad_corpus>(same && stream.gcount() == wanted, [&] {
        return "A corpus must stay as it is during a run; " + detail::quoted(from.path) + " had " +
               detail::grouped(from.size) + " bytes at the start and has changed, shrunk or gone since.";
    });
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = static_cast<unsigned char>(text[k]);
}

inline text_files text_files::select(std::span<const index> ordinals) const {
    text_files part;
    for (const index i : ordinals) part.files_.push_back(file(i));
    part.report_.files = part.count();
    part.report_.bytes = total_tokens(part);
    return part;
}

static_assert(selectable_source<text_files>);

}  // namespace longspan
