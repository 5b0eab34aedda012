// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <sys/resource.h>
#include <unistd.h>

namespace scratch {

/// A folder of one test's own, gone when the test is over.
struct folder {
    std::filesystem::path path;

    explicit folder(const std::string& name)
        : path(std::filesystem::temp_directory_path() / ("longspan_" + name + "_" + std::to_string(::getpid()))) {
        std::filesystem::remove_all(path);
        std::filesystem::create_directories(path);
    }
    ~folder() { std::filesystem::remove_all(path); }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;

    [[nodiscard]] std::string operator/(const std::string& name) const { return (path / name).string(); }
    [[nodiscard]] int entries() const {
        return static_cast<int>(std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator()));
    }
};

inline std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// A new file, not the old one rewritten: ext4 forces what was truncated to the disk on closing, which thousands would feel.
inline void put(const std::string& path, std::string_view text) {
    std::filesystem::remove(path);
    std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

/// For its lifetime no file of this process may grow past `bytes`: a write stops short there, and the next one fails.
struct file_size_limit {
    rlimit before{};
    void (*handler)(int);
    explicit file_size_limit(rlim_t bytes) : handler(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before);
        const rlimit now{bytes, before.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &now);
    }
    ~file_size_limit() {
        ::setrlimit(RLIMIT_FSIZE, &before);
        std::signal(SIGXFSZ, handler);
    }
    file_size_limit(const file_size_limit&) = delete;
    file_size_limit& operator=(const file_size_limit&) = delete;
};

/// The sentence of the Error that f() throws; empty when it throws none.
template <class Error, class F>
std::string sentence_of(F&& f) {
    try {
        f();
        return "";
    } catch (const Error& thrown) {
        return thrown.what();
    }
}

}  // namespace scratch
