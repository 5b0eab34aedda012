// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/logbook.hpp.
#pragma once

#include <vector>

#include <longspan/train/logbook.hpp>

namespace longspan {

inline logbook::logbook(std::string path) : logbook(std::move(path), O_WRONLY | O_CREAT | O_APPEND | O_TRUNC) {}

inline logbook::logbook(std::string path, int flags) : path_(std::move(path)), file_(path_, flags, 0666) {
    if (!file_.open()) fail("it cannot be opened", errno);
    // A pipe is written like a file: full, it makes the run wait.
    (void)::fcntl(file_.number(), F_SETFL, O_APPEND);
}

inline void logbook::write(std::span<const log_field> fields, std::span<const log_field> more) {
    text_ = "{";
    const auto field = [&](std::size_t i) -> const log_field& { return i < fields.size() ? fields[i] : more[i - fields.size()]; };
    for (std::size_t i = 0; i < fields.size() + more.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k)
            expects(field(k).name != field(i).name, [&] { return "a line of a log has " + quoted_json(field(i).name) + " twice"; });
        if (i > 0) text_ += ',';
        append_json(text_, field(i).name);
        text_ += ':';
        field(i).value.append_to(text_);
    }
    text_ += "}\n";
    const detail::transfer result = detail::write_all(file_, std::as_bytes(std::span(text_)));
    if (result.error != 0) {
        // What was there before stays, and what was not written in full goes; a pipe has no length to go back to.
        if (result.done > 0) (void)!::ftruncate(file_.number(), size_);
        fail("a line could not be written", result.error);
    }
    size_ += result.done;
}

inline void logbook::sync() {
    // EINVAL: a pipe or a terminal, which has no disk.
    if (::fsync(file_.number()) != 0 && errno != EINVAL && errno != EROFS) fail("it could not be forced to the disk", errno);
}

inline void logbook::fail(const char* what, int error) const {
    throw write_failed("the log \"" + path_ + "\" (" + std::to_string(size_) + " bytes so far): " + what + ": " + detail::error_text(error));
}

inline logbook logbook::resume(std::string path, index step) {
    logbook log(std::move(path), O_RDWR | O_CREAT | O_APPEND);
    struct stat status {};
    expects<bad_snapshot>(::fstat(log.file_.number(), &status) == 0 && S_ISREG(status.st_mode), [&] {
        return "the log \"" + log.path_ + "\" is no file: it cannot be gone on with";
    });
    log.size_ = status.st_size;
    const bytes kept = log.examine(step);
    log.history_.cut = log.size_ - kept;
    if (log.history_.cut > 0 && ::ftruncate(log.file_.number(), kept) != 0) log.fail("it could not be cut", errno);
    log.size_ = kept;
    return log;
}

/// Where the log of `step` ends.
inline bytes logbook::examine(index step) {
    std::vector<std::byte> block(static_cast<std::size_t>(64 * KiB));
    std::string line;
    bytes kept = 0, seen = 0;
    index lines = 0;
    for (bytes offset = 0; offset < size_;) {
        const detail::transfer part = detail::read_all(file_, offset, std::span(block).first(static_cast<std::size_t>(std::min<bytes>(64 * KiB, size_ - offset))));
        expects<bad_snapshot>(part.done > 0, [&] { return "the log \"" + path_ + "\" cannot be read: " + detail::error_text(part.error); });
        offset += part.done;
        for (std::string_view rest(reinterpret_cast<const char*>(block.data()), static_cast<std::size_t>(part.done)); !rest.empty();) {
            const std::size_t end = rest.find('\n');
            line += rest.substr(0, end);
            if (end == std::string_view::npos) break;
            rest.remove_prefix(end + 1);
            seen += static_cast<bytes>(line.size()) + 1;
            const std::string where = "the log \"" + path_ + "\", line " + std::to_string(++lines);
            try {
                const json_value value = parse_json(line, where);
                (void)value.members(where);
                const json_value* const at = value.find("step");
                const index reached = at ? at->integer(where + ", step") : history_.last_step;
                if (reached > step) return kept;
                if (at || history_.last_step < 0) {
                    kept = seen;
                    history_.lines = lines;
                    history_.last_step = reached;
                }
            } catch (const bad_snapshot&) {
                // Once the step is reached, the rest goes anyway, whatever it is.
                if (history_.last_step == step) return kept;
                throw;
            }
            line.clear();
        }
    }
    return kept;
}

}  // namespace longspan
