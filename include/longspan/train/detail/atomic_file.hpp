// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/atomic_file.hpp.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>

#include <longspan/train/atomic_file.hpp>

namespace longspan {

namespace detail {

[[nodiscard]] inline std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace detail

inline atomic_file::atomic_file(std::string path, bytes size) : path_(std::move(path)), size_(size) {
    if (const std::unique_ptr<char, decltype(&std::free)> real{::realpath(path_.c_str(), nullptr), &std::free}) path_ = real.get();
    struct stat status {};
    const bool exists = ::stat(path_.c_str(), &status) == 0;
    if (exists && !S_ISREG(status.st_mode))
        fail(S_ISDIR(status.st_mode) ? "the name of a file was expected; a folder has that name"
                                     : "the name of a file was expected; a pipe or device has that name", 0);
    // O_EXCL: two processes that save under one name never share a temporary.
    for (int attempt = 0; attempt < 100 && !file_.open(); ++attempt) {
        temporary_ = path_ + ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
        file_ = detail::descriptor(temporary_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
        if (!file_.open() && errno != EEXIST) break;
    }
    if (!file_.open()) {
        const int error = errno;
        temporary_.clear();
        fail("no file can be created in that folder", error);
    }
    // Who could read the old file, and nobody else, can read the new one.
    if (exists) (void)!::fchmod(file_.number(), status.st_mode & 07777U);
}

inline void atomic_file::write(std::span<const std::byte> data) {
    const detail::transfer result = detail::write_all(file_, data);
    written_ += result.done;
    if (result.error != 0) fail("the disk took no more", result.error);
}

inline void atomic_file::commit() {
    if (::fsync(file_.number()) != 0) fail("the bytes could not be forced to the disk", errno);
    if (const int error = file_.close(); error != 0) fail("the file could not be closed", error);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("the temporary file could not take its name", errno);
    temporary_.clear();
    const detail::descriptor folder(detail::folder_of(path_), O_RDONLY | O_DIRECTORY);
    // EINVAL: a file system whose folders need no forcing. A folder that may be written but not read cannot be opened here.
    if (folder.open() && ::fsync(folder.number()) != 0 && errno != EINVAL) {
        throw write_failed("saving \"" + path_ + "\": the file is in place, but its name could not be forced to the disk: " +
                           detail::error_text(errno));
    }
}

inline void atomic_file::fail(const char* what, int error) {
    discard();
    std::string sentence = "saving \"" + path_ + "\"";
    if (size_ > 0 || written_ > 0)
        sentence += " (" + std::to_string(written_) + (size_ > 0 ? " of " + std::to_string(size_) : std::string()) + " bytes written)";
    sentence += std::string(": ") + what;
    if (error != 0) sentence += ": " + detail::error_text(error);
    throw write_failed(sentence + "; nothing that was there before has changed");
}

inline void atomic_file::discard() noexcept {
    if (temporary_.empty()) return;
    file_ = detail::descriptor();
    ::unlink(temporary_.c_str());
    temporary_.clear();
}

}  // namespace longspan
