// SPDX-License-Identifier: Apache-2.0
//
// Bodies of train/safetensors.hpp: types, shapes, and the validation of a header.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include <longspan/train/json.hpp>
#include <longspan/train/safetensors.hpp>

namespace longspan {

namespace detail {

struct dtype_row {
    std::string_view name;
    bytes size;
};
inline constexpr std::array<dtype_row, 15> dtype_rows{{{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                                       {"U16", 2}, {"I16", 2}, {"F16", 2}, {"BF16", 2}, {"U32", 4},
                                                       {"I32", 4}, {"F32", 4}, {"U64", 8}, {"I64", 8}, {"F64", 8}}};

template <class T>
consteval dtype dtype_for() {
    if constexpr (std::same_as<T, float>) return dtype::F32;
    else if constexpr (std::same_as<T, double>) return dtype::F64;
    else if constexpr (std::same_as<T, bf16>) return dtype::BF16;
    else if constexpr (std::same_as<T, fp16>) return dtype::F16;
    else if constexpr (std::same_as<T, bool>) return dtype::BOOL;
    else if constexpr (sizeof(T) == 1) return std::signed_integral<T> ? dtype::I8 : dtype::U8;
    else if constexpr (sizeof(T) == 2) return std::signed_integral<T> ? dtype::I16 : dtype::U16;
    else if constexpr (sizeof(T) == 4) return std::signed_integral<T> ? dtype::I32 : dtype::U32;
    else return std::signed_integral<T> ? dtype::I64 : dtype::U64;
}

/// a · b, or -1 when it needs more than 63 bits (or a is -1 already); b > 0.
[[nodiscard]] constexpr bytes product_within_63_bits(bytes a, bytes b) {
    return a < 0 || a > std::numeric_limits<bytes>::max() / b ? -1 : a * b;
}

}  // namespace detail

constexpr std::string_view name_of(dtype type) { return detail::dtype_rows[static_cast<std::size_t>(type)].name; }
constexpr bytes size_of(dtype type) { return detail::dtype_rows[static_cast<std::size_t>(type)].size; }

constexpr bytes tensor_bytes(dtype type, std::span<const index> shape) {
    bytes product = size_of(type);
    bool empty = false;
    for (const index extent : shape) {
        if (extent < 0) return -1;
        empty = empty || extent == 0;
        if (extent > 0) product = detail::product_within_63_bits(product, extent);
    }
    return product < 0 ? -1 : empty ? 0 : product;
}

inline std::string describe(dtype type, std::span<const index> shape) {
    std::string out(name_of(type));
    out += " [";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i == 8) {  // a hostile shape may be long
            out += ", ... " + std::to_string(shape.size()) + " extents";
            break;
        }
        out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    }
    return out + "]";
}

namespace detail {

/// Reads one tensor's object; every sentence begins with the file and the tensor's name.
class entry_parser {
public:
    entry_parser(std::string_view file, const std::string& name) : where_(std::string(file) + ": tensor " + quoted_json(name)) {}

    [[nodiscard]] tensor_entry parse(const json_member& member, bytes data) const {
        tensor_entry entry;
        entry.name = member.name;
        const json_value *type = nullptr, *shape = nullptr, *offsets = nullptr;
        for (const json_member& field : member.value.members(where_)) {
            if (field.name == "dtype") type = &field.value;
            else if (field.name == "shape") shape = &field.value;
            else if (field.name == "data_offsets") offsets = &field.value;
            else refuse(": expected dtype, shape and data_offsets, came " + quoted_json(field.name));
        }
        if (!type) refuse(" has no dtype");
        if (!shape) refuse(" has no shape");
        if (!offsets) refuse(" has no data_offsets");
        entry.type = parse_type(type->text(where_ + ", dtype"));
        for (const json_value& extent : shape->items(where_ + ", shape"))
            entry.shape.push_back(static_cast<index>(extent.natural(where_ + ", shape", most)));
        const json_value::list& pair = offsets->items(where_ + ", data_offsets");
        if (pair.size() != 2) refuse(", data_offsets: expected 2 numbers, came " + std::to_string(pair.size()));
        entry.begin = static_cast<bytes>(pair[0].natural(where_ + ", data_offsets", most));
        entry.end = static_cast<bytes>(pair[1].natural(where_ + ", data_offsets", most));
        check(entry, data);
        return entry;
    }

private:
    static constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();

    [[noreturn]] void refuse(const std::string& sentence) const { throw bad_snapshot(where_ + sentence); }

    [[nodiscard]] dtype parse_type(const std::string& name) const {
        for (std::size_t i = 0; i < dtype_rows.size(); ++i)
            if (dtype_rows[i].name == name) return static_cast<dtype>(i);
        refuse(": expected a dtype of BOOL, U8 ... F64, came " + quoted_json(name));
    }
    void check(const tensor_entry& entry, bytes data) const {
        const std::string range = "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
        if (entry.begin > entry.end) refuse(": its data_offsets " + range + " run backwards");
        if (entry.end > data) refuse(": its data_offsets " + range + " end beyond the file's " + std::to_string(data) + " bytes of data");
        const bytes size = tensor_bytes(entry.type, entry.shape);
        if (size < 0) refuse(": " + describe(entry.type, entry.shape) + " has more bytes than 63 bits can count");
        if (size != entry.size())
            refuse(": " + describe(entry.type, entry.shape) + " takes " + std::to_string(size) + " bytes, its data_offsets " + range +
                   " give " + std::to_string(entry.size()));
    }

    std::string where_;
};

}  // namespace detail

inline safetensors_header parse_safetensors_header(std::string_view json, bytes data, std::string_view where) {
    expects<bad_snapshot>(json.starts_with('{'), [&] {
        return std::string(where) + ": the header of a safetensors file begins with '{', this one does not";
    });
    const std::size_t last = json.find_last_not_of(' ');
    expects<bad_snapshot>(json[last] == '}', [&] {
        return std::string(where) + ": the header of a safetensors file ends with '}' and spaces, this one does not";
    });
    const json_value root = parse_json(json, where);

    safetensors_header header;
    for (const json_member& member : root.members(where)) {
        if (member.name == "__metadata__") {
            for (const json_member& text : member.value.members(std::string(where) + ": __metadata__"))
                header.metadata.emplace_back(text.name, text.value.text(std::string(where) + ": __metadata__, " + quoted_json(text.name)));
        } else {
            header.tensors.push_back(detail::entry_parser(where, member.name).parse(member, data));
        }
    }
    std::sort(header.tensors.begin(), header.tensors.end(), [](const tensor_entry& a, const tensor_entry& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
    });
    bytes covered = 0;
    for (const tensor_entry& entry : header.tensors) {
        expects<bad_snapshot>(entry.begin == covered, [&] {
            return std::string(where) + ": tensor " + quoted_json(entry.name) + " begins at byte " + std::to_string(entry.begin) +
                   (entry.begin < covered ? ", inside the tensor before it, which ends at " : ", behind a hole that begins at ") +
                   std::to_string(covered);
        });
        covered = entry.end;
    }
    expects<bad_snapshot>(covered == data, [&] {
        return std::string(where) + ": its tensors end at byte " + std::to_string(covered) + ", its data at byte " + std::to_string(data);
    });
    return header;
}

}  // namespace longspan
