// SPDX-License-Identifier: Apache-2.0
//
// A snapshot whose state is stored in other formats than the trainer's (config.update): read as floats, and stored as the trainer
// stores. What becomes narrower is rounded once, to the nearest: to bf16 to nearest even, to eight bits by precision/eight_bit.hpp; eight
// bits that stay eight bits are copied. A run that lacks masters gets its weights as such, exactly; one that wants none gets them rounded
// to weights.
//
// Memory on the host: the floats of one parameter; into eight bits, whose blocks may lie in two parameters, those of one moment.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <longspan/model/parameter_layout.hpp>
#include <longspan/precision/eight_bit.hpp>
#include <longspan/precision/update_storage.hpp>
#include <longspan/train/snapshot_file.hpp>

namespace longspan::detail {

/// A model's lines but those that say how its state is stored.
[[nodiscard]] inline description without_storage(const description& model) {
    description rest;
    for (const auto& [key, value] : model.items())
        if (key != "moments" && key != "masters") rest.set(key, value);
    return rest;
}

/// A parameter of the file.
struct converted_parameter {
    std::string name;
    std::vector<index> shape;
    index size, offset;   ///< elements, and where they lie in the trainer's store
    index in_eight_bits;  ///< where they lay in a store of moments in eight bits

    /// Blocks of eight bits that it lies in, and the first of them.
    [[nodiscard]] index first_block() const { return in_eight_bits / eight_bit::block; }
    [[nodiscard]] index blocks() const { return ceil_div(in_eight_bits + size, eight_bit::block) - first_block(); }
};

/// Throws bad_snapshot unless the file has the tensor in this shape, as floats or bf16, or in eight bits where that may be.
[[nodiscard]] inline dtype convertible_type(const snapshot_reader& file, const std::string& name, const std::vector<index>& shape, bool eight) {
    const tensor_entry* const entry = file.file().find(name);
    const bool known = entry != nullptr && (entry->type == dtype::F32 || entry->type == dtype::BF16 || (eight && entry->type == dtype::U8));
    return file.file().require(name, known ? entry->type : dtype::F32, shape).type;
}

/// A tensor of floats or bf16, as floats.
inline void read_as_floats(const snapshot_reader& file, const std::string& name, const std::vector<index>& shape, std::span<float> into) {
    if (file.file().find(name)->type == dtype::F32) return file.read<float>(name, shape, into);
    std::vector<bf16> stored(into.size());
    file.read<bf16>(name, shape, std::span(stored));
    std::ranges::transform(stored, into.begin(), [](bf16 x) { return to_compute(x); });
}

/// One of the two moments, in whichever format the file has it. Signed: the first.
template <bool Signed>
struct converted_moment {
    [[nodiscard]] static std::string name_of(const converted_parameter& p) { return Signed ? first_moment_of(p.name) : second_moment_of(p.name); }
    [[nodiscard]] static std::string scale_of(const converted_parameter& p) { return Signed ? first_scale_of(p.name) : second_scale_of(p.name); }

    /// How many tensors of the file this is.
    [[nodiscard]] static std::size_t check(const snapshot_reader& file, const converted_parameter& p) {
        if (convertible_type(file, name_of(p), p.shape, true) != dtype::U8) return 1;
        file.file().require(scale_of(p), dtype::F32, std::vector<index>{p.blocks()});
        return 2;
    }
    static void read(const snapshot_reader& file, const converted_parameter& p, std::span<float> into) {
        if (file.file().find(name_of(p))->type != dtype::U8) return read_as_floats(file, name_of(p), p.shape, into);
        std::vector<std::uint8_t> codes(into.size());
        std::vector<float> scales(static_cast<std::size_t>(p.blocks()));
        file.read<std::uint8_t>(name_of(p), p.shape, std::span(codes));
        file.read<float>(scale_of(p), {p.blocks()}, std::span(scales));
        for (std::size_t i = 0; i < codes.size(); ++i) {
            const index block = (p.in_eight_bits + static_cast<index>(i)) / eight_bit::block - p.first_block();
            into[i] = eight_bit_block<Signed>::decoded(codes[i], scales[static_cast<std::size_t>(block)]);
        }
    }
    /// As they are, into a store of eight bits, whose blocks lie where the file's do: coded once more, a block would get another scale.
    static void copy(const snapshot_reader& file, const converted_parameter& p, std::span<std::uint8_t> codes, std::span<float> scales) {
        const auto part = [](auto run, index from, index count) { return run.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(count)); };
        file.read<std::uint8_t>(name_of(p), p.shape, part(codes, p.in_eight_bits, p.size));
        file.read<float>(scale_of(p), {p.blocks()}, part(scales, p.first_block(), p.blocks()));
    }
    /// A whole run into eight bits.
    static void store(std::span<const float> from, std::span<std::uint8_t> codes, std::span<float> scales) {
        constexpr auto block = static_cast<std::size_t>(eight_bit::block);
        for (std::size_t begin = 0; begin < from.size(); begin += block)
            scales[begin / block] = eight_bit_block<Signed>::encode(from.data() + begin, static_cast<index>(std::min(block, from.size() - begin)), codes.data() + begin);
    }
};

/// The parameters of a model as a store laid out by `Layout` has them.
template <class Model, class Layout>
[[nodiscard]] std::vector<converted_parameter> converted_parameters(std::vector<index> (*shape_of)(const parameter&)) {
    std::vector<converted_parameter> all;
    Layout::for_each([&](const std::string& name, const parameter& p, index offset) { all.push_back({name, shape_of(p), p.size(), offset, 0}); });
    std::size_t i = 0;
    parameter_layout<Model, update_storage<eight_bit>>::for_each([&](const std::string&, const parameter&, index offset) { all[i++].in_eight_bits = offset; });
    return all;
}

/// Throws bad_snapshot unless the file has so many tensors.
inline void expect_tensors(const snapshot_reader& file, std::size_t expected) {
    expects<bad_snapshot>(file.file().tensors().size() == expected, [&] {
        return file.file().path() + ": expected " + std::to_string(expected) + " tensors, came " + std::to_string(file.file().tensors().size());
    });
}

/// Throws bad_snapshot unless every tensor of the file is one of these, in a format that can be read.
inline void check_convertible(const snapshot_reader& file, const std::vector<converted_parameter>& parameters) {
    std::size_t expected = 0;
    for (const converted_parameter& p : parameters) {
        (void)convertible_type(file, p.name, p.shape, false);
        expected += 1 + converted_moment<true>::check(file, p) + converted_moment<false>::check(file, p);
    }
    expect_tensors(file, expected);
}

/// Fills the runs of a store, each in its own format.
template <class Master, class Moment>
void convert_into(const snapshot_reader& file, const std::vector<converted_parameter>& parameters, std::span<Master> masters, std::span<Moment> first,
                  std::span<float> first_scales, std::span<Moment> second, std::span<float> second_scales) {
    const auto each = [&](auto run, auto&& read) {
        std::vector<float> values;
        for (const converted_parameter& p : parameters) {
            values.resize(static_cast<std::size_t>(p.size));
            read(p, std::span(values));
            using stored = typename decltype(run)::value_type;
            std::ranges::transform(values, run.begin() + p.offset, [](float x) { return from_compute<stored>(static_cast<compute_t<stored>>(x)); });
        }
    };
    each(masters, [&](const converted_parameter& p, std::span<float> into) { read_as_floats(file, p.name, p.shape, into); });
    const auto moment = [&](auto of, std::span<Moment> run, std::span<float> scales) {
        const auto read = [&](const converted_parameter& p, std::span<float> into) { decltype(of)::read(file, p, into); };
        if constexpr (std::is_same_v<Moment, std::uint8_t>) {
            const auto in_codes = [&](const converted_parameter& p) { return file.file().find(decltype(of)::name_of(p))->type == dtype::U8; };
            if (std::ranges::all_of(parameters, in_codes)) {
                for (const converted_parameter& p : parameters) decltype(of)::copy(file, p, run, scales);
                return;
            }
            std::vector<float> whole(run.size());
            each(std::span(whole), read);
            decltype(of)::store(whole, run, scales);
        } else {
            each(run, read);
        }
    };
    moment(converted_moment<true>{}, first, first_scales);
    moment(converted_moment<false>{}, second, second_scales);
}

}  // namespace longspan::detail
