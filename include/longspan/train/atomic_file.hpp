// SPDX-License-Identifier: Apache-2.0
//
// A file that is there in full or not at all. The bytes go to a temporary name in the same folder, are forced to the disk
// (fsync), and take their name in one step (rename), which is then forced too (fsync of the folder): whenever power fails, the
// name leads to the old bytes or to the new ones. On any failure (a full disk, a missing folder, no permission) the temporary
// is removed, what stood there before still stands, and `write_failed` says why.
//
//     ls::atomic_file file("runs/7.safetensors");
//     file.write(head);
//     file.write(tensors);
//     file.commit();
//
// Memory: none besides the caller's. A process that is killed amid a write leaves "<name>.partial-<process>-<n>" behind.
// Reference: Pillai et al., "All file systems are not created equal", OSDI 2014. POSIX only.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/train/detail/descriptor.hpp>

namespace longspan {

/// One file being written. Every function throws write_failed with the path, the bytes, and the system's reason.
class atomic_file {
public:
    /// Opens the temporary. A link is followed: the file that it leads to is the one replaced. A folder, a pipe or a device of
    /// that name is refused, not replaced. `size`, when known, is for the sentence.
    explicit atomic_file(std::string path, bytes size = 0);
    atomic_file(const atomic_file&) = delete;
    atomic_file& operator=(const atomic_file&) = delete;
    /// Not committed: removes the temporary.
    ~atomic_file() { discard(); }

    void write(std::span<const std::byte> data);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

    /// fsync, rename, fsync of the folder. Nothing may follow.
    void commit();

    [[nodiscard]] bytes written() const { return written_; }
    /// The final name, links resolved.
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    [[noreturn]] void fail(const char* what, int error);
    void discard() noexcept;

    std::string path_, temporary_;
    bytes size_, written_ = 0;
    detail::descriptor file_;
};

/// The whole of a small file in one call.
inline void write_atomically(std::string path, std::string_view text) {
    atomic_file file(std::move(path), static_cast<bytes>(text.size()));
    file.write(text);
    file.commit();
}

}  // namespace longspan

#include <longspan/train/detail/atomic_file.hpp>
