// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/snapshot_file.hpp.
#pragma once

#if !__has_include(<xxhash.h>)
#error "longspan: snapshots need the header of xxHash (Debian and Ubuntu: libxxhash-dev)"
#endif

#include <charconv>
#include <memory>
#include <system_error>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL  // nothing to link, and free of a library that the program may link besides
#endif
#include <xxhash.h>

#include <longspan/train/json.hpp>
#include <longspan/train/snapshot_file.hpp>

namespace longspan {

namespace detail {

/// XXH64 of parts, one after another.
class checksum {
public:
    checksum() : state_(XXH64_createState()) {
        if (!state_ || XXH64_reset(state_.get(), 0) != XXH_OK) throw out_of_memory("no memory for the state of a checksum");
    }
    void add(std::span<const std::byte> part) {
        // An empty part may have no address, which the library would take for a mistake.
        if (!part.empty()) (void)XXH64_update(state_.get(), part.data(), part.size());
    }
    void add(std::string_view part) { add(std::as_bytes(std::span(part))); }
    [[nodiscard]] std::uint64_t value() const { return XXH64_digest(state_.get()); }

private:
    struct release {
        void operator()(XXH64_state_t* state) const { (void)XXH64_freeState(state); }
    };
    std::unique_ptr<XXH64_state_t, release> state_;
};

[[nodiscard]] inline std::string hex_digits(std::uint64_t value) {
    std::string out(16, '0');
    for (std::size_t i = 16; i-- > 0; value >>= 4) out[i] = "0123456789abcdef"[value & 15];
    return out;
}

/// A number as text that reads back as the same; what is not finite as "nan", "inf", "-inf".
template <class T>
[[nodiscard]] std::string number_text(T value) {
    if constexpr (std::same_as<T, bool>) return value ? "true" : "false";
    else {
        char digits[64];
        return std::string(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
    }
}

inline constexpr std::string_view checksum_key = "\"longspan.checksum\":\"";
inline constexpr std::string_view no_checksum = "0000000000000000";

}  // namespace detail

inline description& description::set(std::string key, std::string_view value) {
    expects(!key.empty() && key.find_first_of("=\n") == std::string::npos && value.find('\n') == std::string_view::npos, [&] {
        return "a line of a description is key=value, without '=' in the key or a line break; came key " + quoted_json(key) + ", value " +
               quoted_json(value);
    });
    expects(!find(key), [&] { return "a description has " + quoted_json(key) + " already"; });
    items_.emplace_back(std::move(key), value);
    return *this;
}

template <class T>
    requires std::integral<T> || std::floating_point<T>
description& description::set(std::string key, T value) {
    return set(std::move(key), std::string_view(detail::number_text(value)));
}

inline const std::string* description::find(std::string_view key) const {
    for (const auto& [name, value] : items_)
        if (name == key) return &value;
    return nullptr;
}

inline std::string description::text() const {
    std::string out;
    for (const auto& [key, value] : items_) out += key + "=" + value + "\n";
    return out;
}

inline std::uint64_t description::hash() const {
    detail::checksum sum;
    sum.add(text());
    return sum.value();
}

inline description description::parse(std::string_view text, std::string_view where) {
    description result;
    while (!text.empty()) {
        const std::size_t end = text.find('\n'), equals = text.find('=');
        expects<bad_snapshot>(end != std::string_view::npos && equals < end && equals > 0 && !result.find(text.substr(0, equals)), [&] {
            return std::string(where) + ": expected lines of key=value, each key once, came " + quoted_json(text.substr(0, end));
        });
        result.items_.emplace_back(text.substr(0, equals), text.substr(equals + 1, end - equals - 1));
        text.remove_prefix(end + 1);
    }
    return result;
}

inline std::vector<std::string> differences(const description& was, const description& is, std::string_view subject) {
    std::vector<std::string> lines;
    const auto line = [&](const std::string& key, const std::string& before, const std::string& now) {
        lines.push_back(std::string(subject) + ": " + key + " was " + before + ", is " + now);
    };
    for (const auto& [key, value] : was.items()) {
        const std::string* const now = is.find(key);
        if (!now) line(key, value, "absent");
        else if (*now != value) line(key, value, *now);
    }
    for (const auto& [key, value] : is.items())
        if (!was.find(key)) line(key, "absent", value);
    return lines;
}

inline snapshot_writer::snapshot_writer(const description& model, const description& run) {
    tensors_.set_metadata("longspan.snapshot", std::to_string(version));
    tensors_.set_metadata("longspan.model_hash", detail::hex_digits(model.hash()));
    tensors_.set_metadata("longspan.run_hash", detail::hex_digits(run.hash()));
    tensors_.set_metadata("longspan.checksum", std::string(detail::no_checksum));
    tensors_.set_metadata("longspan.model", model.text());
    tensors_.set_metadata("longspan.run", run.text());
}

template <class T>
    requires std::integral<T> || std::floating_point<T>
snapshot_writer& snapshot_writer::set(std::string key, T value) {
    return set(std::move(key), std::string_view(detail::number_text(value)));
}

inline bytes snapshot_writer::save(const std::string& path) const {
    safetensors_image image = tensors_.image();
    detail::checksum sum;
    sum.add(image.head);
    for (const std::span<const std::byte> part : image.data) sum.add(part);
    image.head.replace(image.head.find(detail::checksum_key) + detail::checksum_key.size(), 16, detail::hex_digits(sum.value()));
    image.write(path);
    return image.size;
}

inline snapshot_reader::snapshot_reader(std::string path) : file_(std::move(path)) {
    const std::string* const stored = file_.metadata("longspan.snapshot");
    expects<bad_snapshot>(stored, [&] { return file_.path() + ": a safetensors file, but no snapshot of a run (no longspan.snapshot)"; });
    expects<bad_snapshot>(*stored == std::to_string(snapshot_writer::version), [&] {
        return file_.path() + ": expected a snapshot of version " + std::to_string(snapshot_writer::version) + ", came " + quoted_json(*stored);
    });
    verify_checksum();
    model_ = read_description("longspan.model");
    run_ = read_description("longspan.run");
}

/// Sums the file as it was summed when it was written: with zeros for the digits of the sum. A quote inside a JSON string is
/// escaped, so the key with its quotes stands only where it is a key.
inline void snapshot_reader::verify_checksum() const {
    const std::string stored = required("longspan.checksum");
    std::string head(static_cast<std::size_t>(file_.data_begin()), '\0');
    file_.read_file(0, std::as_writable_bytes(std::span(head)));
    const std::size_t at = head.find(detail::checksum_key);
    detail::checksum sum;
    if (at != std::string::npos && stored.size() == 16) {
        head.replace(at + detail::checksum_key.size(), 16, detail::no_checksum);
        sum.add(head);
        std::vector<std::byte> block(static_cast<std::size_t>(MiB));
        for (bytes offset = file_.data_begin(); offset < file_.file_size(); offset += MiB) {
            const auto part = std::span(block).first(static_cast<std::size_t>(std::min(MiB, file_.file_size() - offset)));
            file_.read_file(offset, part);
            sum.add(part);
        }
    }
    expects<bad_snapshot>(detail::hex_digits(sum.value()) == stored, [&] {
        return file_.path() + ": its checksum is " + detail::hex_digits(sum.value()) + ", the one stored in it " + quoted_json(stored) +
               ": the file is not as it was written";
    });
}

inline const std::string& snapshot_reader::required(std::string_view key) const {
    const std::string* const value = file_.metadata(key);
    expects<bad_snapshot>(value, [&] { return file_.path() + ": a snapshot has " + std::string(key) + " in its metadata, this one does not"; });
    return *value;
}

inline description snapshot_reader::read_description(const std::string& key) const {
    description result = description::parse(required(key), file_.path() + ": " + key);
    expects<bad_snapshot>(detail::hex_digits(result.hash()) == required(key + "_hash"), [&] {
        return file_.path() + ": the hash of " + key + " is " + detail::hex_digits(result.hash()) + ", the one stored " +
               quoted_json(required(key + "_hash"));
    });
    return result;
}

inline void snapshot_reader::require_model(const description& model) const {
    if (model_ == model) return;
    const std::vector<std::string> lines = differences(model_, model, "model");
    throw bad_snapshot(file_.path() + ": a snapshot of another model: " +
                       (lines.empty() ? std::string("the same lines, in another order") : lines.front()) +
                       (lines.size() > 1 ? " (and " + std::to_string(lines.size() - 1) + " more)" : std::string()));
}

inline const std::string& snapshot_reader::text(std::string_view key) const { return required("state." + std::string(key)); }

template <class T>
    requires std::integral<T> || std::floating_point<T>
T snapshot_reader::get(std::string_view key) const {
    const std::string& stored = text(key);
    T value{};
    bool whole = false;
    if constexpr (std::same_as<T, bool>) {
        value = stored == "true";
        whole = value || stored == "false";
    } else {
        const auto end = std::from_chars(stored.data(), stored.data() + stored.size(), value);
        whole = end.ec == std::errc() && end.ptr == stored.data() + stored.size();
    }
    expects<bad_snapshot>(whole, [&] {
        return file_.path() + ": state." + std::string(key) + ": expected " +
               (std::same_as<T, bool> ? "true or false" : std::integral<T> ? "an integer of " + std::to_string(8 * sizeof(T)) + " bits" : "a number") +
               ", came " + quoted_json(stored);
    });
    return value;
}

}  // namespace longspan
