// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/batch/permutation.hpp>
#include <longspan/layer/embedding.hpp>
#include <longspan/model/shape.hpp>

#include "bench.hpp"

namespace layers {

namespace {

constexpr index tokens = 37, width = 6, vocabulary = 11, context = 16;
const std::vector<piece> pieces{{3, 0, 0}, {4, 0, 16}, {5, 0, 16}, {6, 4, 17}, {-1, 0, 29}};

template <position_kind Positions, bool Dropout>
struct embedded {
    static constexpr decoder_shape shape{.layers = 2, .width = width, .heads = 1, .vocabulary = vocabulary, .context = context,
                                         .positions = Positions, .dropout = Dropout ? 0.3 : 0.0};
    using model = model_of<shape, uniform_precision<double>>;
    using layer = embedding_layer<model>;
    static constexpr index size = table_size<typename layer::parameter_table>();
    std::mt19937_64 random{1};
    bench<model> at{pieces, tokens, 7};
    std::vector<std::int32_t> ids, sorted;
    std::vector<double> table = normals(size, random);

    embedded() : ids(tokens), sorted(tokens) {
        for (auto& id : ids) id = static_cast<std::int32_t>(random() % vocabulary);
        sort_tokens(ids, vocabulary, sorted);
    }
    std::vector<double> forward(const std::vector<double>& bucket) {
        std::vector<double> x(tokens * width);
        layer::forward(at.context, typename layer::weights(bucket.data()), ids.data(), {x.data(), tokens, width});
        return x;
    }
    /// The layer is linear in its tables, so Σ forward(v) · up = Σ v · backward(up) for every v and up.
    void check_adjoint() {
        const std::vector<double> up = normals(tokens * width, random), v = normals(size, random);
        std::vector<double> dx = up, d_table(static_cast<std::size_t>(size), 0.5);
        layer::backward(at.context, typename layer::gradients(d_table.data()), ids.data(), sorted.data(), {dx.data(), tokens, width});
        for (double& g : d_table) g -= 0.5;  // added to
        const std::vector<double> none(static_cast<std::size_t>(size), 0.0);
        const double expected = dot(forward(v), up) - dot(forward(none), up);  // without what is fixed
        CHECK(dot(d_table, v) == doctest::Approx(expected).epsilon(1e-10));
        CHECK(expected != 0);
    }
};

}  // namespace

TEST_CASE("embedding: a token is its row, and its position's row when positions are learned") {
    embedded<position_kind::none, false> bare;
    embedded<position_kind::learned, false> learned;
    const auto x = bare.forward(bare.table), y = learned.forward(learned.table);
    const index positions = decltype(learned)::layer::weights::offset(1);
    for (index i = 0; i < 4; ++i) {
        const piece& p = pieces[static_cast<std::size_t>(i)];
        for (index t = p.begin; t < pieces[static_cast<std::size_t>(i) + 1].begin; ++t) {
            for (index c = 0; c < width; ++c) {
                const auto row = [&](const auto& e) { return e.table[static_cast<std::size_t>(e.ids[static_cast<std::size_t>(t)] * width + c)]; };
                const auto position = static_cast<std::size_t>(positions + (p.position + t - p.begin) * width + c);
                const auto element = static_cast<std::size_t>(t * width + c);
                CHECK_FALSE(x[element] != row(bare));
                CHECK_FALSE(y[element] != row(learned) + learned.table[position]);
            }
        }
    }
    CHECK(decltype(bare)::size == round_up(vocabulary * width, 128));
    CHECK(decltype(learned)::size == round_up(vocabulary * width, 128) + round_up(context * width, 128));
}

TEST_CASE("embedding: sinusoidal positions add waves that no table holds") {
    embedded<position_kind::sinusoidal, false> waves;
    const std::vector<double> none(waves.table.size(), 0.0);
    const auto x = waves.forward(none);
    CHECK(x[0] == 0);  // sin 0
    CHECK(x[1] == 1);  // cos 0
    CHECK(x[17 * width] == doctest::Approx(std::sin(4.0)));  // a piece that begins at position 4
    CHECK(x[16 * width + 1] == 1);
}

TEST_CASE("embedding: the backward is the forward's adjoint, with and without dropout") {
    embedded<position_kind::none, false>{}.check_adjoint();
    embedded<position_kind::learned, true>{}.check_adjoint();
    embedded<position_kind::sinusoidal, false>{}.check_adjoint();
}

TEST_CASE("embedding: dropout's elements are gone while training only") {
    embedded<position_kind::none, true> e;
    const auto thinned = e.forward(e.table);
    e.at.context.training = false;
    const auto whole = e.forward(e.table);
    index gone = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) gone += thinned[i] == 0 && whole[i] != 0;
    CHECK(gone > 30);
    CHECK(gone < 110);
}

}  // namespace layers
