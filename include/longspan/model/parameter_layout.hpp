// SPDX-License-Identifier: Apache-2.0
//
// Where every parameter of a decoder lies. The store is a sequence of buckets: the embedding, one per block, the head; each
// contiguous, each tensor at a multiple of 128 elements. The same offsets serve weights, masters, gradients and moments, and a
// name is a view: "blocks.3.attention.qkv.weight". Gradients that are used bucket by bucket lie in the room of the largest one.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include <longspan/layer/block.hpp>
#include <longspan/layer/embedding.hpp>
#include <longspan/layer/head.hpp>
#include <longspan/memory/layout.hpp>
#include <longspan/precision/update_storage.hpp>

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

/// Update: how the optimizer's state is stored.
template <class Model, class Update = update_storage<>>
struct parameter_layout {
    using embedding = embedding_layer<Model>;
    using block = block_tables<Model>;
    using head = head_layer<Model>;
    using precision = typename Model::precision;
    using update = Update;
    using moment = typename Update::template moment<precision>;
    static constexpr bool has_master = Update::template has_master<precision>;
    static constexpr bool in_eight_bits = std::is_same_v<moment, eight_bit>;

    static constexpr index layers = Model::shape.layers;
    static constexpr index embedding_size = round_up(table_size<typename embedding::parameter_table>(), Update::bucket_alignment);
    static constexpr index block_size = round_up(block::size, Update::bucket_alignment);
    static constexpr index head_size = round_up(table_size<typename head::parameter_table>(), Update::bucket_alignment);
    static constexpr index head_offset = embedding_size + layers * block_size;
    /// Elements of the store, with the padding between tensors.
    static constexpr index size = head_offset + head_size;
    /// Parameters of the model.
    static constexpr index count = table_parameters<typename embedding::parameter_table>() + layers * block::parameter_count +
                                   table_parameters<typename head::parameter_table>();

    [[nodiscard]] static constexpr index block_offset(index layer) { return embedding_size + layer * block_size; }

    /// Buckets in the order of the store: 0 is the embedding, then the blocks, then the head.
    static constexpr index buckets = layers + 2;
    [[nodiscard]] static constexpr index bucket_offset(index bucket) { return bucket == 0 ? 0 : block_offset(bucket - 1); }
    [[nodiscard]] static constexpr index bucket_size(index bucket) {
        return bucket == 0 ? embedding_size : bucket <= layers ? block_size : head_size;
    }
    [[nodiscard]] static std::string bucket_name(index bucket) {
        return bucket == 0 ? "embedding" : bucket <= layers ? "blocks." + std::to_string(bucket - 1) : "head";
    }

    /// Where a backward makes a bucket's gradients. In the room of one bucket all take the same place, but for a tied embedding, whose
    /// gradients begin with the head's and end with its own.
    static constexpr index shared_gradients = Update::through_a_room && Model::shape.tied ? embedding_size : 0;
    [[nodiscard]] static constexpr index gradient_offset(index bucket) {
        return !Update::through_a_room ? bucket_offset(bucket) : bucket == 0 ? 0 : shared_gradients;
    }
    static constexpr const char* gradients_name = Update::through_a_room ? "gradients of a bucket" : "gradients";
    /// Elements of the gradients that a backward makes: the whole store's, or the room's.
    static constexpr index gradient_size = [] {
        if (!Update::through_a_room) return size;
        index most = 0;
        for (const index bucket : {index{0}, index{1}, layers + 1}) {
            const index end = gradient_offset(bucket) + bucket_size(bucket);
            if (end > most) most = end;
        }
        return most;
    }();

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
        if constexpr (has_master) result.add(region("master weights", size * bytes_of<precision, role::master>));
        if constexpr (Update::in_bf16) result.add(region("sums of gradients", size * bytes{sizeof(bf16)}));
        result.add(region(gradients_name, gradient_size * bytes_of<precision, role::parameter_gradient>));
        for (const char* name : {"first moments", "second moments"}) {
            if constexpr (in_eight_bits) {
                result.add(region(name, size));
                result.add(region("scales", size / eight_bit::block * bytes{sizeof(float)}));
            } else {
                result.add(region(name, size * bytes{sizeof(moment)}));
            }
        }
        return result;
    }
};

}  // namespace longspan
