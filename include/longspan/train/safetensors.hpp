// SPDX-License-Identifier: Apache-2.0
//
// Tensors in a file that every framework reads: 8 bytes N (little-endian), N bytes of JSON
//
//     {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//
// padded with spaces, and the tensors' bytes, row-major, little-endian, end to end. The reader validates all of it before it
// allocates anything for a tensor: readers of this format have been made to read out of bounds by a shape whose product wraps
// to 0, by offsets that run backwards, and by numbers that a lax JSON reader let through (docs of each case in
// tests/train/safetensors.cpp). Tensors go into memory of the caller's, read in place (pread), so one reader serves several
// threads. Memory: the header, about 300 bytes a tensor.
// Reference: the safetensors format and its validator, safetensors/src/tensor.rs.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/precision/bf16.hpp>
#include <longspan/precision/fp16.hpp>
#include <longspan/train/detail/descriptor.hpp>

namespace longspan {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian, and are read here as they lie");

/// What an element of a stored tensor is, by its name in the format.
enum class dtype : std::uint8_t { BOOL, U8, I8, F8_E5M2, F8_E4M3, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64 };

[[nodiscard]] constexpr std::string_view name_of(dtype type);
/// Bytes of an element.
[[nodiscard]] constexpr bytes size_of(dtype type);

namespace detail {
template <class T>
[[nodiscard]] consteval dtype dtype_for();
}

/// A type whose values lie in memory as a dtype does.
template <class T>
concept tensor_element = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16> || std::same_as<T, fp16> ||
                         (std::integral<T> && sizeof(T) <= 8);

template <tensor_element T>
inline constexpr dtype dtype_of = detail::dtype_for<T>();

/// One tensor of a file. `begin` and `end` count bytes from where the header ends.
struct tensor_entry {
    std::string name;
    dtype type = dtype::F32;
    std::vector<index> shape;  ///< empty for a scalar
    bytes begin = 0, end = 0;

    [[nodiscard]] bytes size() const { return end - begin; }
};

/// "F32 [50304, 768]".
[[nodiscard]] std::string describe(dtype type, std::span<const index> shape);

/// The bytes of a tensor of this type and shape; -1 when that is beyond 63 bits, or an extent is negative. A shape with a 0 has
/// none, but its other extents must multiply within 63 bits too: a product that wraps is never excused.
[[nodiscard]] constexpr bytes tensor_bytes(dtype type, std::span<const index> shape);

/// The header of a file, validated.
struct safetensors_header {
    std::vector<tensor_entry> tensors;                             ///< by `begin`
    std::vector<std::pair<std::string, std::string>> metadata;     ///< in the order of the file
    static constexpr bytes longest = 100'000'000;                  ///< bytes of JSON, the format's own limit
};

/// Reads the JSON of a header that is followed by `data` bytes. Throws bad_snapshot unless every tensor has a known type, a
/// shape that multiplies out to just its bytes, and the tensors cover the data exactly, without overlap or hole. `where` names
/// the file.
[[nodiscard]] safetensors_header parse_safetensors_header(std::string_view json, bytes data, std::string_view where);

/// A file open for reading, its header validated. Throws bad_snapshot for whatever is wrong with the file.
class safetensors_reader {
public:
    explicit safetensors_reader(std::string path);

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const std::vector<tensor_entry>& tensors() const { return header_.tensors; }
    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& metadata() const { return header_.metadata; }
    /// The text of one key; null when there is none.
    [[nodiscard]] const std::string* metadata(std::string_view key) const;
    /// The tensor of this name; null when there is none.
    [[nodiscard]] const tensor_entry* find(std::string_view name) const;

    /// The tensor of this name, type and shape. Throws bad_snapshot when the file has none.
    const tensor_entry& require(std::string_view name, dtype type, std::span<const index> shape) const;

    /// Reads a whole tensor into the caller's memory. Throws bad_snapshot when the file has no such tensor, or has it with another
    /// type or shape; bad_argument when `into` has not as many elements as `shape` says.
    template <tensor_element T>
    void read(std::string_view name, std::span<const index> shape, std::span<T> into) const;
    template <tensor_element T>
    void read(std::string_view name, std::initializer_list<index> shape, std::span<T> into) const {
        read(name, std::span(shape.begin(), shape.size()), into);
    }
    /// The same, untyped.
    void read(std::string_view name, dtype type, std::span<const index> shape, std::span<std::byte> into) const;
    /// Bytes [first, first + into.size()) of a tensor, for those who stream.
    void read(const tensor_entry& tensor, bytes first, std::span<std::byte> into) const;

    /// Bytes of the file from `offset` on, header included: for checksums.
    void read_file(bytes offset, std::span<std::byte> into) const;
    [[nodiscard]] bytes file_size() const { return size_; }
    /// Where the tensors' bytes begin.
    [[nodiscard]] bytes data_begin() const { return data_begin_; }

private:
    std::string path_;
    detail::descriptor file_;
    bytes size_ = 0, data_begin_ = 0;
    safetensors_header header_;
    std::vector<std::size_t> by_name_;
};

/// A file as it will be written: the head in full, then these bytes, which still belong to their owners.
struct safetensors_image {
    std::string head;
    std::vector<std::span<const std::byte>> data;
    bytes size = 0;

    /// Writes the whole of it or nothing (train/atomic_file.hpp). Throws write_failed.
    void write(const std::string& path) const;
};

/// Collects views of tensors and writes them; the memory must stay as it is until then. Larger elements come first in the file,
/// otherwise in the order of adding, and the head is a multiple of 64 bytes: every tensor is aligned to its element.
/// Throws bad_argument for a name twice, text that is not UTF-8, or bytes that do not fit the shape.
class safetensors_writer {
public:
    void set_metadata(std::string key, std::string text);
    void add(std::string name, dtype type, std::vector<index> shape, std::span<const std::byte> data);
    template <tensor_element T>
    void add(std::string name, std::vector<index> shape, std::span<const T> data) {
        add(std::move(name), dtype_of<T>, std::move(shape), std::as_bytes(data));
    }

    [[nodiscard]] safetensors_image image() const;
    /// Writes the whole file or nothing, and says how many bytes. Throws write_failed.
    bytes write(const std::string& path) const;

private:
    struct item {
        tensor_entry entry;
        std::span<const std::byte> data;
    };
    std::vector<std::pair<std::string, std::string>> metadata_;
    std::vector<item> items_;
};

}  // namespace longspan

#include <longspan/train/detail/safetensors_header.hpp>
#include <longspan/train/detail/safetensors_file.hpp>
