// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <span>
#include <vector>

#include <longspan/model/gradient_room.hpp>
#include <longspan/model/parameter_layout.hpp>
#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

struct ops {
    void zero(std::span<float> values) const {
        for (float& x : values) x = 0;
    }
};

template <bool Tied, auto Update>
using layout = ls::parameter_layout<ls::model_of<ls::decoder_shape{.layers = 2, .width = 12, .heads = 3, .hidden = 30, .vocabulary = 1000,
                                                                   .context = 9, .tied = Tied},
                                                 ls::uniform_precision<float>>,
                                    std::remove_cvref_t<decltype(Update)>>;

}  // namespace

TEST_CASE("gradient_room: whole gradients lie where parameters do, and nothing becomes of them") {
    using all = layout<true, ls::usual_update>;
    std::vector<float> store(static_cast<std::size_t>(all::size), 3);
    const ls::whole_gradients<all, float> room(store.data());
    CHECK(room.begin(ops{}, 0) == store.data());
    CHECK(room.begin(ops{}, 2) == store.data() + all::block_offset(1));
    CHECK(room.begin(ops{}, 3) == store.data() + all::head_offset);
    CHECK(store[0] == 3);
    CHECK(all::gradient_size == all::size);
}

TEST_CASE("gradient_room: by bucket all share the largest one's room, but a tied embedding keeps its own beside it") {
    using apart = layout<false, ls::usual_update.by_bucket()>;
    using tied = layout<true, ls::moments<ls::eight_bit>.by_bucket()>;
    CHECK(apart::gradient_size == apart::bucket_size(3));  // the head's: projection and norm
    CHECK(apart::gradient_offset(0) == 0);
    CHECK(apart::gradient_offset(1) == 0);
    CHECK(tied::gradient_size == tied::embedding_size + tied::block_size);
    CHECK(tied::gradient_offset(0) == 0);
    CHECK(tied::gradient_offset(2) == tied::embedding_size);
    for (ls::index b = 0; b < tied::buckets; ++b) {
        CHECK(tied::bucket_offset(b) % 256 == 0);
        CHECK(tied::bucket_offset(b) + tied::bucket_size(b) == (b + 1 < tied::buckets ? tied::bucket_offset(b + 1) : tied::size));
    }
    CHECK(tied::bucket_name(0) == "embedding");
    CHECK(tied::bucket_name(2) == "blocks.1");
    CHECK(tied::bucket_name(3) == "head");

    std::vector<float> room(static_cast<std::size_t>(tied::gradient_size), 3);
    std::vector<ls::index> used;
    const auto use = [&](const ops&, ls::index bucket) { used.push_back(bucket); };
    const ls::passing_gradients<tied, float, decltype(use)> passing{room.data(), use};
    CHECK(passing.begin(ops{}, 1) == room.data() + tied::embedding_size);
    CHECK(room[static_cast<std::size_t>(tied::embedding_size) - 1] == 3);  // the embedding's stay
    CHECK(room[static_cast<std::size_t>(tied::embedding_size)] == 0);
    CHECK(room.back() == 0);
    passing.end(ops{}, 1);
    CHECK(used == std::vector<ls::index>{1});
}
