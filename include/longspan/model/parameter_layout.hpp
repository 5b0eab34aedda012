// SPDX-License-Identifier: Apache-2.0
//
// Where every parameter of a decoder lies. The store is a sequence of buckets: the embedding, one per block, the head; each
// contiguous, each tensor at a multiple of 128 elements. The same offsets serve weights, masters, gradients and moments, and a
// name is a view: "blocks.3.attention.qkv.weight".
#pragma once

#include <cstdint>
#include <string>

#include <longspan/layer/block.hpp>
#include <longspan/layer/embedding.hpp>
#include <longspan/layer/head.hpp>
#include <longspan/memory/layout.hpp>

namespace longspan {

/// Which parameter of a model, in the parts of its name, and where it lies.
struct parameter_place {
    index layer = -1;        ///< of its block; −1 outside the blocks
    const char* owner = "";  ///< "attention.", "mlp.", "head.", or nothing
    const char* part = "";
    index offset = 0;  ///< elements from the start of the store

    [[nodiscard]] std::string name() const {
        std::string text = layer >= 0 ? "blocks." + std::to_string(layer) + "." : std::string();
        return text.append(owner).append(part);
    }
};

template <class Model>
struct parameter_layout {
    using embedding = embedding_layer<Model>;
    using block = block_tables<Model>;
    using head = head_layer<Model>;
    using precision = typename Model::precision;

    static constexpr index layers = Model::shape.layers;
    static constexpr index embedding_size = table_size<typename embedding::parameter_table>();
    static constexpr index head_offset = embedding_size + layers * block::size;
    /// Elements of the store, with the padding between tensors.
    static constexpr index size = head_offset + table_size<typename head::parameter_table>();
    /// Parameters of the model.
    static constexpr index count = table_parameters<typename embedding::parameter_table>() + layers * block::parameter_count +
                                   table_parameters<typename head::parameter_table>();

    [[nodiscard]] static constexpr index block_offset(index layer) { return embedding_size + layer * block::size; }

    /// Calls f(place, parameter) for every parameter, in the order of the store. Allocates nothing.
    template <class F>
    static void for_each_place(F&& f) {
        const auto visit = [&](index layer, const char* owner, const parameter& p, index offset) {
            if (p.size() > 0) f(parameter_place{layer, owner, p.name, offset}, p);
        };
        for (std::size_t i = 0; i < embedding::parameter_table::list.size(); ++i) {
            visit(-1, "", embedding::parameter_table::list[i], embedding::weights::offset(i));
        }
        for (index l = 0; l < layers; ++l) {
            block::for_each_parameter([&](const char* branch, const parameter& p, index offset) { visit(l, branch, p, block_offset(l) + offset); });
        }
        for (std::size_t i = 0; i < head::parameter_table::list.size(); ++i) {
            visit(-1, "head.", head::parameter_table::list[i], head_offset + head::weights::offset(i));
        }
    }
    /// Calls f(name, parameter, element offset in the store) likewise.
    template <class F>
    static void for_each(F&& f) {
        for_each_place([&](const parameter_place& place, const parameter& p) { f(place.name(), p, place.offset); });
    }

    /// A byte for every `parameter_alignment` elements of the store: 1 where `decays(parameter)`.
    static constexpr index groups = size / parameter_alignment;
    template <class Decays>
    static void mark_decay(std::uint8_t* marks, Decays&& decays) {
        for (index i = 0; i < groups; ++i) marks[i] = 0;
        for_each_place([&](const parameter_place& place, const parameter& p) {
            for (index i = 0; i < ceil_div(p.size(), parameter_alignment); ++i) marks[place.offset / parameter_alignment + i] = decays(p) ? 1 : 0;
        });
    }

    /// The bytes of the store: what stays from step to step.
    [[nodiscard]] static constexpr layout memory() {
        layout result = together("parameters", region("weights", size * bytes_of<precision, role::weight>), region("decay groups", groups));
        if constexpr (precision::has_master) result.add(region("master weights", size * bytes_of<precision, role::master>));
        result.add(region("gradients", size * bytes_of<precision, role::parameter_gradient>));
        result.add(region("first moments", size * bytes_of<precision, role::moment>));
        result.add(region("second moments", size * bytes_of<precision, role::moment>));
        return result;
    }
};

}  // namespace longspan
