// SPDX-License-Identifier: Apache-2.0
//
// Rows of a table and the sum of their gradients on the device, against plain loops in double.
#include <algorithm>

#include <longspan/batch/permutation.hpp>
#include <longspan/cuda/embedding.cuh>

#include "support.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

using ids = std::vector<std::int32_t>;

/// Zipf: id k as often as 1 / (k + 1); the first one owns a large part.
ids zipf_ids(index tokens, index vocabulary, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::vector<double> weights(static_cast<std::size_t>(vocabulary));
    for (std::size_t k = 0; k < weights.size(); ++k) weights[(k * 7919 + 3) % weights.size()] = 1.0 / static_cast<double>(k + 1);
    std::discrete_distribution<std::int32_t> draw(weights.begin(), weights.end());
    ids drawn(static_cast<std::size_t>(tokens));
    for (auto& id : drawn) id = draw(engine);
    return drawn;
}

ids order_of(const ids& tokens, index vocabulary) {
    ids order(tokens.size());
    sort_tokens(tokens, vocabulary, order);
    return order;
}

template <index Width, class W, class X>
void rows_of_the_table(index rows, index vocabulary, unsigned seed) {
    INFO("[", rows, ", ", Width, "], vocabulary ", vocabulary);
    const own_stream stream;
    const index w_stride = Width + 8, x_stride = Width + 16;
    const ids tokens = zipf_ids(rows, vocabulary, seed);
    const auto table = random_values<W>(static_cast<std::size_t>(vocabulary * w_stride), seed);
    const device_array<std::int32_t> d_tokens(tokens);
    const device_array<W> d_table(table);
    device_array<X> x(static_cast<std::size_t>(rows * x_stride));
    device_array<index> bad(std::vector<index>{INT64_MAX});
    cuda::embed<Width>(stream, d_tokens.data(), d_table.constants(vocabulary, Width, w_stride), x.view(rows, Width, x_stride), bad.data());
    const auto ours = x.get();
    index wrong = 0;
    const unsigned char poison = 0xFF;
    for (index t = 0; t < rows; ++t) {
        for (index c = 0; c < x_stride; ++c) {
            const X& at = ours[static_cast<std::size_t>(t * x_stride + c)];
            if (c >= Width) {
                wrong += std::memcmp(&at, &poison, 1) != 0;
                continue;
            }
            const X expected = from_compute<X>(to_compute(table[static_cast<std::size_t>(tokens[static_cast<std::size_t>(t)] * w_stride + c)]));
            wrong += std::memcmp(&at, &expected, sizeof(X)) != 0;
        }
    }
    CHECK(wrong == 0);
    CHECK(bad.get()[0] == INT64_MAX);
}

/// Each sum within what float sums of that many terms may be off, run to run the same bits.
template <index Width, class DX>
void sums_of_gradients(const ids& tokens, index vocabulary, unsigned seed) {
    const auto rows = static_cast<index>(tokens.size());
    INFO("[", rows, ", ", Width, "], vocabulary ", vocabulary);
    const own_stream stream;
    const index stride = Width + 8, table_stride = Width + 12;
    const auto dx = random_values<DX>(static_cast<std::size_t>(rows * stride), seed);
    const auto before = random_values<float>(static_cast<std::size_t>(vocabulary * table_stride), seed + 1);
    const device_array<std::int32_t> d_tokens(tokens), d_sorted(order_of(tokens, vocabulary));
    const device_array<DX> d_dx(dx);
    std::vector<float> first;
    for (int run = 0; run < 2; ++run) {
        device_array<float> d_table(before);
        device_array<std::byte> workspace(static_cast<std::size_t>(cuda::embedding_backward_workspace(rows, Width)));
        cuda::embedding_backward<Width>(stream, d_dx.constants(rows, Width, stride), d_tokens.data(), d_sorted.data(),
                                        d_table.view(vocabulary, Width, table_stride), workspace.data());
        const auto ours = d_table.get();
        if (run == 1) {
            CHECK(same_bits(ours, first));
            break;
        }
        first = ours;
        std::vector<double> sums(ours.size()), sizes(ours.size());
        std::vector<index> counts(static_cast<std::size_t>(vocabulary));
        for (index t = 0; t < rows; ++t) {
            const index id = tokens[static_cast<std::size_t>(t)];
            ++counts[static_cast<std::size_t>(id)];
            for (index c = 0; c < Width; ++c) {
                const double value = to_compute(dx[static_cast<std::size_t>(t * stride + c)]);
                sums[static_cast<std::size_t>(id * table_stride + c)] += value;
                sizes[static_cast<std::size_t>(id * table_stride + c)] += std::abs(value);
            }
        }
        index wrong = 0, changed = 0;
        for (index id = 0; id < vocabulary; ++id) {
            for (index c = 0; c < table_stride; ++c) {
                const auto at = static_cast<std::size_t>(id * table_stride + c);
                if (c >= Width || counts[static_cast<std::size_t>(id)] == 0) {
                    changed += ours[at] != before[at];
                    continue;
                }
                const double exact = before[at] + sums[at];
                // Pieces of at most 128, then pieces: half a unit for each addition in a chain of about 130 and one per piece.
                const double slack = 0x1p-24 * (std::abs(exact) + sizes[at] * std::min<double>(140, static_cast<double>(counts[static_cast<std::size_t>(id)])));
                wrong += !(std::abs(ours[at] - exact) <= slack);
            }
        }
        CHECK(wrong == 0);
        CHECK(changed == 0);
    }
}

}  // namespace

TEST_CASE("cuda embedding: rows of the table, rounded once, between the columns of wider tensors") {
    rows_of_the_table<1, float, float>(77, 5, 1);
    rows_of_the_table<24, bf16, bf16>(1, 256, 2);
    rows_of_the_table<768, bf16, bf16>(85, 256, 3);
    rows_of_the_table<768, float, bf16>(10, 50, 4);
    rows_of_the_table<1000, fp16, float>(33, 7, 5);
    rows_of_the_table<8200, bf16, bf16>(3, 3, 6);
}

TEST_CASE("cuda embedding backward: sums of one id whole and cut, rare ids and frequent ones") {
    for (const index rows : {1, 31, 32, 33, 67, 1000, 4099}) {
        sums_of_gradients<24, float>(zipf_ids(rows, 256, 1), 256, static_cast<unsigned>(rows));
        sums_of_gradients<768, bf16>(zipf_ids(rows, 5000, 2), 5000, static_cast<unsigned>(rows) + 1);
    }
    sums_of_gradients<1, float>(zipf_ids(300, 4, 3), 4, 3);
    sums_of_gradients<2048, fp16>(ids(1500, 2), 3, 4);        // one id owns all: 47 pieces
    sums_of_gradients<8, bf16>(ids(300000, 1), 2, 5);         // 2344 pieces, more than the threads that look for their end
    sums_of_gradients<8, float>(zipf_ids(300001, 256, 6), 256, 6);
    ids distinct(777);
    for (std::size_t i = 0; i < distinct.size(); ++i) distinct[i] = static_cast<std::int32_t>((i * 331) % 777);
    sums_of_gradients<96, bf16>(distinct, 777, 7);
    ids aligned(256);  // runs that end where pieces do
    for (std::size_t i = 0; i < aligned.size(); ++i) aligned[i] = static_cast<std::int32_t>(i / 32);
    sums_of_gradients<96, bf16>(aligned, 8, 8);
}

TEST_CASE("cuda embedding: ids outside the vocabulary are found, not followed") {
    constexpr index width = 64, vocabulary = 11;
    const own_stream stream;
    ids tokens(200, 3);
    tokens[150] = -1, tokens[49] = 11, tokens[51] = INT32_MIN, tokens[52] = INT32_MAX, tokens[53] = 4;
    ids order(tokens.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return tokens[static_cast<std::size_t>(a)] < tokens[static_cast<std::size_t>(b)]; });
    const device_array<std::int32_t> d_tokens(tokens), d_sorted(order);
    const auto table = random_values<bf16>(vocabulary * width, 1);
    const device_array<bf16> d_table(table);
    device_array<bf16> x(200 * width);
    device_array<index> bad(std::vector<index>{INT64_MAX});
    for (index* const note : {bad.data(), static_cast<index*>(nullptr)}) {
        cuda::embed<width>(stream, d_tokens.data(), d_table.constants(vocabulary, width), x.view(200, width), note);
        const auto ours = x.get();
        CHECK(std::memcmp(&ours[49 * width], &table[0], width * 2) == 0);
        CHECK(std::memcmp(&ours[53 * width], &table[4 * width], width * 2) == 0);
    }
    CHECK(bad.get()[0] == 49);

    device_array<float> gradient(vocabulary * width);
    gradient.zero();
    device_array<std::byte> workspace(static_cast<std::size_t>(cuda::embedding_backward_workspace(200, width)));
    const device_array<float> ones(std::vector<float>(200 * width, 1.0f));
    cuda::embedding_backward<width>(stream, ones.constants(200, width), d_tokens.data(), d_sorted.data(), gradient.view(vocabulary, width), workspace.data());
    const auto sums = gradient.get();
    for (index id = 0; id < vocabulary; ++id) CHECK(sums[static_cast<std::size_t>(id * width + 7)] == (id == 3 ? 195.0f : id == 4 ? 1.0f : 0.0f));
}

TEST_CASE("cuda embedding: no tokens, and sentences for what does not fit") {
    const own_stream stream;
    device_array<bf16> x(8 * 64 + 8);
    device_array<float> table(8 * 64);
    const device_array<std::int32_t> tokens(ids(8, 0));
    device_array<std::byte> workspace(8192);
    cuda::embed<64>(stream, nullptr, x.constants(8, 64), x.view(0, 64), nullptr);
    cuda::embedding_backward<64>(stream, x.constants(0, 64), nullptr, nullptr, table.view(8, 64), nullptr);
    CHECK_THROWS_AS(cuda::embed<64>(stream, nullptr, x.constants(8, 64), x.view(8, 64), nullptr), bad_argument);
    CHECK_THROWS_AS(cuda::embed<64>(stream, tokens.data(), x.constants(0, 64), x.view(8, 64), nullptr), bad_argument);
    CHECK_THROWS_AS(cuda::embed<64>(stream, tokens.data(), x.constants(8, 32), x.view(8, 64), nullptr), bad_argument);
    CHECK_THROWS_AS((cuda::embed<64>(stream, tokens.data(), matrix_view<const bf16>(x.data() + 1, 8, 64), x.view(8, 64), nullptr)), bad_argument);
    CHECK_THROWS_AS(cuda::embedding_backward<64>(stream, x.constants(8, 64), tokens.data(), tokens.data(), table.view(8, 64), nullptr), bad_argument);
    CHECK_THROWS_AS(cuda::embedding_backward<64>(stream, x.constants(8, 64), tokens.data(), nullptr, table.view(8, 64), workspace.data()), bad_argument);
    stream.wait();
}

TEST_CASE("cuda embedding: offsets beyond 2^31 elements") {
    constexpr index width = 8192, rows = (index{1} << 31) / width + 2;
    std::size_t free = 0, all = 0;
    cuda::check(cudaMemGetInfo(&free, &all), "test");
    if (free < std::size_t{2} * rows * width * 2 + (2u << 30)) {
        MESSAGE("left out: the device has too little memory free");
        return;
    }
    const own_stream stream;
    ids tokens(rows), order(rows);
    for (std::size_t t = 0; t < rows; ++t) tokens[t] = static_cast<std::int32_t>(rows - 1 - t), order[rows - 1 - t] = static_cast<std::int32_t>(t);
    const device_array<std::int32_t> d_tokens(tokens), d_order(order);
    device_array<bf16> table(static_cast<std::size_t>(rows * width)), x(static_cast<std::size_t>(rows * width));
    const auto last = random_values<bf16>(width, 1);
    cuda::check(cudaMemcpy(table.data() + (rows - 1) * width, last.data(), width * 2, cudaMemcpyHostToDevice), "test");
    cuda::embed<width>(stream, d_tokens.data(), table.constants(rows, width), x.view(rows, width), nullptr);
    stream.wait();
    std::vector<bf16> ours(width);
    cuda::check(cudaMemcpy(ours.data(), x.data(), width * 2, cudaMemcpyDeviceToHost), "test");
    CHECK(same_bits(ours, last));
    // The last tokens' gradients go to the first ids; all others are outside this table.
    device_array<float> gradient(2 * width);
    gradient.zero();
    cuda::check(cudaMemcpy(x.data() + (rows - 1) * width, last.data(), width * 2, cudaMemcpyHostToDevice), "test");
    device_array<std::byte> workspace(static_cast<std::size_t>(cuda::embedding_backward_workspace(rows, width)));
    cuda::embedding_backward<width>(stream, x.constants(rows, width), d_tokens.data(), d_order.data(), gradient.view(1, width), workspace.data());
    const auto sums = gradient.get();
    CHECK(doubles(last) == doubles(std::vector<float>(sums.begin(), sums.begin() + width)));
    CHECK(std::all_of(sums.begin() + width, sums.end(), [](float s) { return s == 0; }));
}

}  // namespace longspan
