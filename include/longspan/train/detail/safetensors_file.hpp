// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/safetensors.hpp: files.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>

#include <longspan/train/atomic_file.hpp>
#include <longspan/train/safetensors.hpp>

namespace longspan {

inline safetensors_reader::safetensors_reader(std::string path) : path_(std::move(path)), file_(path_, O_RDONLY) {
    expects<bad_snapshot>(file_.open(), [&] { return path_ + ": cannot be opened: " + detail::error_text(errno); });
    struct stat status {};
    expects<bad_snapshot>(::fstat(file_.number(), &status) == 0 && S_ISREG(status.st_mode), [&] { return path_ + ": is no file"; });
    size_ = status.st_size;
    expects<bad_snapshot>(size_ >= 8, [&] {
        return path_ + ": a safetensors file begins with 8 bytes that give the length of its header; this one has " +
               std::to_string(size_) + " bytes in all";
    });
    std::uint64_t length = 0;
    read_file(0, std::as_writable_bytes(std::span(&length, 1)));
    expects<bad_snapshot>(length <= static_cast<std::uint64_t>(safetensors_header::longest), [&] {
        return path_ + ": a safetensors header has at most " + std::to_string(safetensors_header::longest) +
               " bytes; this file claims " + std::to_string(length);
    });
    data_begin_ = 8 + static_cast<bytes>(length);
    expects<bad_snapshot>(data_begin_ <= size_, [&] {
        return path_ + ": its header ends at byte " + std::to_string(data_begin_) + ", but the file has " + std::to_string(size_) +
               " bytes: truncated, or no safetensors file";
    });
    std::string json(static_cast<std::size_t>(length), '\0');
    read_file(8, std::as_writable_bytes(std::span(json)));
    header_ = parse_safetensors_header(json, size_ - data_begin_, path_);

    by_name_.resize(header_.tensors.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    std::sort(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) { return tensors()[a].name < tensors()[b].name; });
}

inline const std::string* safetensors_reader::metadata(std::string_view key) const {
    for (const auto& [name, text] : header_.metadata)
        if (name == key) return &text;
    return nullptr;
}

inline const tensor_entry* safetensors_reader::find(std::string_view name) const {
    const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                        [&](std::size_t i, std::string_view wanted) { return tensors()[i].name < wanted; });
    return found == by_name_.end() || tensors()[*found].name != name ? nullptr : &tensors()[*found];
}

inline const tensor_entry& safetensors_reader::require(std::string_view name, dtype type, std::span<const index> shape) const {
    const tensor_entry* const entry = find(name);
    expects<bad_snapshot>(entry, [&] { return path_ + ": expected the tensor " + quoted_json(name) + ", which is not there"; });
    expects<bad_snapshot>(entry->type == type && std::ranges::equal(entry->shape, shape), [&] {
        return path_ + ": tensor " + quoted_json(name) + ": expected " + describe(type, shape) + ", came " +
               describe(entry->type, entry->shape);
    });
    return *entry;
}

template <tensor_element T>
void safetensors_reader::read(std::string_view name, std::span<const index> shape, std::span<T> into) const {
    read(name, dtype_of<T>, shape, std::as_writable_bytes(into));
}

inline void safetensors_reader::read(std::string_view name, dtype type, std::span<const index> shape, std::span<std::byte> into) const {
    const bytes size = tensor_bytes(type, shape);
    expects(size == static_cast<bytes>(into.size()), [&] {
        return "reading " + quoted_json(name) + ": " + describe(type, shape) + " has " + std::to_string(size) + " bytes, the memory for it " +
               std::to_string(into.size());
    });
    read(require(name, type, shape), 0, into);
}

inline void safetensors_reader::read(const tensor_entry& tensor, bytes first, std::span<std::byte> into) const {
    const bytes count = static_cast<bytes>(into.size());
    expects(first >= 0 && first <= tensor.size() && count <= tensor.size() - first, [&] {
        return "tensor " + quoted_json(tensor.name) + " has " + std::to_string(tensor.size()) + " bytes; " + std::to_string(count) +
               " from " + std::to_string(first) + " on were asked for";
    });
    read_file(data_begin_ + tensor.begin + first, into);
}

inline void safetensors_reader::read_file(bytes offset, std::span<std::byte> into) const {
    const detail::transfer result = detail::read_all(file_, offset, into);
    expects<bad_snapshot>(result.done == static_cast<bytes>(into.size()), [&] {
        return path_ + ": expected " + std::to_string(into.size()) + " bytes from byte " + std::to_string(offset) + " on, came " +
               std::to_string(result.done) + (result.error == 0 ? ": the file has become shorter" : ": " + detail::error_text(result.error));
    });
}

inline void safetensors_writer::set_metadata(std::string key, std::string text) {
    expects(is_utf8(key) && is_utf8(text), [&] { return "metadata " + quoted_json(key) + ": its key and text must be UTF-8"; });
    for (const auto& pair : metadata_)
        expects(pair.first != key, [&] { return "metadata " + quoted_json(key) + " is set twice"; });
    metadata_.emplace_back(std::move(key), std::move(text));
}

inline void safetensors_writer::add(std::string name, dtype type, std::vector<index> shape, std::span<const std::byte> data) {
    expects(is_utf8(name) && name != "__metadata__", [&] {
        return "tensor " + quoted_json(name) + ": its name must be UTF-8, and other than __metadata__";
    });
    const bytes size = tensor_bytes(type, shape);
    expects(size == static_cast<bytes>(data.size()), [&] {
        return "tensor " + quoted_json(name) + ": " + describe(type, shape) + " has " + std::to_string(size) + " bytes, came " +
               std::to_string(data.size());
    });
    items_.push_back({{std::move(name), type, std::move(shape), 0, size}, data});
}

inline safetensors_image safetensors_writer::image() const {
    std::vector<const item*> order;
    for (const item& i : items_) order.push_back(&i);
    std::sort(order.begin(), order.end(), [](const item* a, const item* b) { return a->entry.name < b->entry.name; });
    const auto twice = std::adjacent_find(order.begin(), order.end(), [](const item* a, const item* b) { return a->entry.name == b->entry.name; });
    expects(twice == order.end(), [&] { return "tensor " + quoted_json((*twice)->entry.name) + " is added twice"; });
    std::sort(order.begin(), order.end(), [](const item* a, const item* b) {
        const bytes first = size_of(a->entry.type), second = size_of(b->entry.type);
        return first != second ? first > second : a < b;  // by address: in the order of adding
    });

    safetensors_image image;
    std::string json = "{";
    if (!metadata_.empty()) {
        json += "\"__metadata__\":{";
        for (std::size_t i = 0; i < metadata_.size(); ++i) {
            if (i > 0) json += ',';
            append_json(json, metadata_[i].first);
            json += ':';
            append_json(json, metadata_[i].second);
        }
        json += "}";
    }
    bytes offset = 0;
    for (const item* const i : order) {
        if (json.size() > 1) json += ',';
        append_json(json, i->entry.name);
        json += ":{\"dtype\":\"";
        json += name_of(i->entry.type);
        json += "\",\"shape\":[";
        for (std::size_t d = 0; d < i->entry.shape.size(); ++d) {
            if (d > 0) json += ',';
            json += std::to_string(i->entry.shape[d]);
        }
        json += "],\"data_offsets\":[" + std::to_string(offset) + ',' + std::to_string(offset + i->entry.size()) + "]}";
        offset += i->entry.size();
        image.data.push_back(i->data);
    }
    json += '}';
    const bytes length = round_up(8 + static_cast<bytes>(json.size()), 64) - 8;
    expects(length <= safetensors_header::longest, [&] {
        return "a safetensors header has at most " + std::to_string(safetensors_header::longest) + " bytes; these tensors need " +
               std::to_string(length);
    });
    json.resize(static_cast<std::size_t>(length), ' ');
    const auto length_bytes = std::bit_cast<std::array<char, 8>>(static_cast<std::uint64_t>(length));
    image.head.assign(length_bytes.begin(), length_bytes.end());
    image.head += json;
    image.size = 8 + length + offset;
    return image;
}

inline void safetensors_image::write(const std::string& path) const {
    atomic_file file(path, size);
    file.write(head);
    for (const std::span<const std::byte> part : data) file.write(part);
    file.commit();
}

inline bytes safetensors_writer::write(const std::string& path) const {
    const safetensors_image whole = image();
    whole.write(path);
    return whole.size;
}

}  // namespace longspan
