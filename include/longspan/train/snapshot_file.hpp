// SPDX-License-Identifier: Apache-2.0
//
// The saved state of a run, as a safetensors file: parameters under their readable names, optimizer moments as
// "moment1.<name>" and "moment2.<name>", and in the metadata
//
//     longspan.snapshot    the version of this layout
//     longspan.model       what must match for the tensors to mean anything: shape, pattern, storage, parameters; "key=value" lines
//     longspan.run         what may differ, and is said: hyper-parameters, batching, corpus
//     longspan.model_hash, longspan.run_hash    XXH64 of the two texts, for a look at a glance
//     longspan.checksum    XXH64 of the whole file with these 16 digits as zeros
//     state.<key>          step count, tokens seen, seed, place in the data, loss scale, ...
//
// The checksum covers head and tensors, so that any flipped bit is found before a tensor is read. XXH64, because it runs at
// 20 GB/s on one core, a tenth of the time of the write itself, and everybody has it (`xxhsum -H1`).
// The interface knows no trainer: it takes and gives views of bytes. Memory: the head, about 300 bytes a tensor, and 1 MiB.
// Needs nlohmann-json3-dev and libxxhash-dev (its header alone, nothing to link); not reachable from longspan.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <longspan/train/safetensors.hpp>

namespace longspan {

/// A model or a run in words: an ordered list of key=value. Keys are unique and have no '='; neither has a line break.
class description {
public:
    description() = default;

    /// Adds one line. Numbers are written so that they read back as the same. Throws bad_argument for a key twice.
    description& set(std::string key, std::string_view value);
    description& set(std::string key, const char* value) { return set(std::move(key), std::string_view(value)); }
    template <class T>
        requires std::integral<T> || std::floating_point<T>
    description& set(std::string key, T value);
    /// A line for a tensor: "<name>=F32 [50304, 768]".
    description& set(std::string name, dtype type, std::span<const index> shape) { return set(std::move(name), describe(type, shape)); }

    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& items() const { return items_; }
    [[nodiscard]] const std::string* find(std::string_view key) const;
    /// "key=value\n" for each line.
    [[nodiscard]] std::string text() const;
    /// XXH64 of text().
    [[nodiscard]] std::uint64_t hash() const;

    /// Reads what text() wrote; throws bad_snapshot.
    [[nodiscard]] static description parse(std::string_view text, std::string_view where);

    friend bool operator==(const description&, const description&) = default;

private:
    std::vector<std::pair<std::string, std::string>> items_;
};

/// A line for each key whose value differs, in the order of `was` and then of what is new: "<subject>: width was 256, is 512".
[[nodiscard]] std::vector<std::string> differences(const description& was, const description& is, std::string_view subject);

/// Names of the optimizer's tensors, one for each parameter.
[[nodiscard]] inline std::string first_moment_of(std::string_view parameter) { return "first_moment." + std::string(parameter); }
[[nodiscard]] inline std::string second_moment_of(std::string_view parameter) { return "second_moment." + std::string(parameter); }
[[nodiscard]] inline std::string first_scale_of(std::string_view parameter) { return "first_scale." + std::string(parameter); }
[[nodiscard]] inline std::string second_scale_of(std::string_view parameter) { return "second_scale." + std::string(parameter); }

/// Collects a run's state and writes it at once, in full or not at all. Tensors are views: their memory must stay as it is until
/// `save` returns.
class snapshot_writer {
public:
    static constexpr int version = 1;

    snapshot_writer(const description& model, const description& run);

    void add(std::string name, dtype type, std::vector<index> shape, std::span<const std::byte> data) {
        tensors_.add(std::move(name), type, std::move(shape), data);
    }
    template <tensor_element T>
    void add(std::string name, std::vector<index> shape, std::span<const T> data) {
        tensors_.add(std::move(name), std::move(shape), data);
    }

    /// One number or text of the run's state. Throws bad_argument for a key twice.
    snapshot_writer& set(std::string key, std::string_view value) {
        tensors_.set_metadata("state." + std::move(key), std::string(value));
        return *this;
    }
    snapshot_writer& set(std::string key, const char* value) { return set(std::move(key), std::string_view(value)); }
    template <class T>
        requires std::integral<T> || std::floating_point<T>
    snapshot_writer& set(std::string key, T value);

    /// Writes the file and says how many bytes it has. Throws write_failed; what had that name before then still has it.
    bytes save(const std::string& path) const;

private:
    safetensors_writer tensors_;
};

/// A snapshot, open for reading. The constructor validates the file and its checksum, so what it lets through is what was
/// written: every function throws bad_snapshot, and nothing of the caller's has changed before the first `read`.
class snapshot_reader {
public:
    explicit snapshot_reader(std::string path);

    [[nodiscard]] const description& model() const { return model_; }
    [[nodiscard]] const description& run() const { return run_; }
    /// Throws bad_snapshot with the first key that differs and both values, unless the snapshot is of this model.
    void require_model(const description& model) const;
    /// "run: rate was 0.001, is 0.002" for each key that differs; empty for the same run.
    [[nodiscard]] std::vector<std::string> run_differences(const description& run) const { return differences(run_, run, "run"); }

    [[nodiscard]] bool has(std::string_view key) const { return file_.metadata("state." + std::string(key)) != nullptr; }
    [[nodiscard]] const std::string& text(std::string_view key) const;
    /// A number of the run's state, in full: what is not of type T, or outside it, is refused.
    template <class T>
        requires std::integral<T> || std::floating_point<T>
    [[nodiscard]] T get(std::string_view key) const;

    /// Whole tensors into the caller's memory, checked as in safetensors_reader.
    template <tensor_element T>
    void read(std::string_view name, std::span<const index> shape, std::span<T> into) const {
        file_.read(name, shape, into);
    }
    template <tensor_element T>
    void read(std::string_view name, std::initializer_list<index> shape, std::span<T> into) const {
        file_.read(name, shape, into);
    }
    void read(std::string_view name, dtype type, std::span<const index> shape, std::span<std::byte> into) const {
        file_.read(name, type, shape, into);
    }
    [[nodiscard]] const safetensors_reader& file() const { return file_; }

private:
    [[nodiscard]] const std::string& required(std::string_view key) const;
    [[nodiscard]] description read_description(const std::string& key) const;
    void verify_checksum() const;

    safetensors_reader file_;
    description model_, run_;
};

}  // namespace longspan

#include <longspan/train/detail/snapshot_file.hpp>
