// SPDX-License-Identifier: Apache-2.0
//
// An open file, closed when its owner goes; reads and writes that go on where the system stopped short.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <longspan/core/types.hpp>

namespace longspan::detail {

/// "No space left on device", of an errno.
[[nodiscard]] inline std::string error_text(int error) { return std::generic_category().message(error); }

class descriptor {
public:
    descriptor() = default;
    /// Opens as ::open does; -1 and errno on failure. O_NONBLOCK, so that a pipe by the name of a file does not block.
    descriptor(const std::string& path, int flags, mode_t mode = 0) {
        do number_ = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
        while (number_ < 0 && errno == EINTR);
    }
    descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~descriptor() {
        if (number_ >= 0) ::close(number_);
    }

    [[nodiscard]] bool open() const { return number_ >= 0; }
    [[nodiscard]] int number() const { return number_; }
    /// Closes now, and says 0 or the errno: some file systems report a failed write only here.
    int close() {
        const int result = ::close(std::exchange(number_, -1));
        return result == 0 || errno == EINTR ? 0 : errno;
    }

private:
    int number_ = -1;
};

/// Bytes transferred before a failure or the end of the file, and the errno (0 at the end).
struct transfer {
    bytes done = 0;
    int error = 0;
};

/// One call of the system moves at most 2 GiB; 64 MiB at a time also lets a signal through.
inline constexpr std::size_t transfer_block = std::size_t{1} << 26;

[[nodiscard]] inline transfer write_all(const descriptor& file, std::span<const std::byte> data) {
    transfer result;
    while (!data.empty()) {
        const ssize_t n = ::write(file.number(), data.data(), std::min(data.size(), transfer_block));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            result.error = n < 0 ? errno : EIO;
            return result;
        }
        result.done += n;
        data = data.subspan(static_cast<std::size_t>(n));
    }
    return result;
}

[[nodiscard]] inline transfer read_all(const descriptor& file, bytes offset, std::span<std::byte> into) {
    transfer result;
    while (!into.empty()) {
        const ssize_t n = ::pread(file.number(), into.data(), std::min(into.size(), transfer_block), offset + result.done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            result.error = n < 0 ? errno : 0;
            return result;
        }
        result.done += n;
        into = into.subspan(static_cast<std::size_t>(n));
    }
    return result;
}

}  // namespace longspan::detail
