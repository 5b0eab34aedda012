// SPDX-License-Identifier: Apache-2.0
//
// Whole runs whose optimizer's state is narrow (config.update): they take the bytes of their plan, give the same bits by bucket and whole,
// stop at a gradient that is not finite, and go on from a snapshot. What they learn: narrow_update_repeats.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <longspan/train/snapshot.hpp>

#include "kept_by.hpp"
#include "narrow_configs.hpp"
#include "scratch.hpp"

namespace models {

namespace {

using passing = with<moments<eight_bit>.without_masters().by_bucket()>;
using twice = with<moments<eight_bit>.without_masters().by_bucket().with_norm()>;

struct with_more_layers : eight {
    static constexpr auto shape = [] {
        auto deeper = eight::shape;
        ++deeper.layers;
        return deeper;
    }();
};
using gradients_too = with<moments<eight_bit>.without_masters().bf16_gradients()>;

template <class Config>
std::vector<std::byte> trained(double* loss = nullptr, int steps = 5) {
    trainer<Config> t{seed{3}, {}, {no_clip}};
    for (int i = 0; i < steps; ++i) {
        const token_batch batch = odd_batch(Config::shape.vocabulary, static_cast<std::uint64_t>(i));
        const step_report report = t.step(std::span(&batch, 1), 1e-3);
        CHECK(report.step == i + 1);
        CHECK(report.high_water == plan<Config, host::cpu>.peak());
        CHECK(report.gradient_norm > 0);
        if (loss != nullptr) *loss = report.loss;
    }
    CHECK(t.memory().in_order());
    return kept_by(t);
}

using scratch::sentence_of;

}  // namespace

TEST_CASE("narrow update: bytes a parameter are those that are said") {
    using model = model_of_config<usual>;
    const auto of = [](bytes whole) { return static_cast<double>(whole) / static_cast<double>(parameter_layout<model>::size); };
    const double groups = 1.0 / 128;
    CHECK(of(parameters_of_config<usual>::memory().peak(1)) == doctest::Approx(18 + groups));
    // Buckets begin at multiples of 256 elements, so the store of a model as small as this is a little longer.
    const double longer = static_cast<double>(parameters_of_config<least>::size) / static_cast<double>(parameter_layout<model>::size);
    CHECK(of(parameters_of_config<alone>::memory().peak(1)) == doctest::Approx(10 + groups));
    CHECK(of(parameters_of_config<eight>::memory().peak(1)) == doctest::Approx((12 + 2.0 / 64 + groups) * longer));
    CHECK(of(parameters_of_config<least>::memory().peak(1)) == doctest::Approx((8 + 2.0 / 64 + groups) * longer));
    CHECK(of(parameters_of_config<passing>::memory().peak(1)) ==
          doctest::Approx((4 + 2.0 / 64 + groups) * longer + 4 * of(parameters_of_config<passing>::gradient_size)));
    CHECK(of(parameters_of_config<gradients_too>::memory().peak(1)) ==
          doctest::Approx((6 + 2.0 / 64 + groups) * longer + 4 * of(parameters_of_config<passing>::gradient_size)));
}

TEST_CASE("narrow update: by bucket, in one pass or two, the bits of whole gradients; two passes clip") {
    const auto whole = trained<least>();
    CHECK(whole == trained<passing>());
    CHECK(whole == trained<twice>());
    // Clipped: norms are added up in another order, so the last bit of the factor may differ.
    trainer<least> a{seed{3}};
    trainer<twice> b{seed{3}};
    for (std::uint64_t i = 0; i < 3; ++i) {
        const token_batch batch = odd_batch(llama.vocabulary, i);
        const step_report ours = b.step(batch), theirs = a.step(batch);
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-12));
        CHECK(ours.gradient_norm > 1);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(1e-5));
        CHECK(ours.targets == theirs.targets);
    }
}

TEST_CASE("narrow update: sums of gradients in bf16 are those of every micro-batch in float, rounded and added; they make a norm") {
    trainer<gradients_too> t{seed{3}};
    trainer<least> floats{seed{3}};
    const std::vector<token_batch> two{odd_batch(llama.vocabulary, 1), odd_batch(llama.vocabulary, 2)};
    std::vector<bf16> expected(t.store().gradients().size(), bf16(0.0f));
    for (const token_batch& batch : two) {
        for (float& g : floats.store().gradients()) g = 0;
        CHECK(floats.accumulate_gradients(batch) == t.accumulate_gradients(batch));
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = bf16(static_cast<float>(expected[i]) + floats.store().gradients()[i]);
    }
    CHECK(std::memcmp(expected.data(), t.store().gradients().data(), 2 * expected.size()) == 0);
    const step_report ours = t.step(std::span<const token_batch>(two)), theirs = floats.step(std::span<const token_batch>(two));
    CHECK(ours.high_water == plan<gradients_too, host::cpu>.peak());
    CHECK(ours.loss == theirs.loss);
    CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-3));
    CHECK(t.step(two[0]).loss == doctest::Approx(floats.step(two[0]).loss).epsilon(1e-3));
    t.store().part(t.store().weights(), "head.norm.weight")[1] = bf16(HUGE_VALF);
    CHECK(t.step(two[0]).refused.find("the weight head.norm.weight is not finite at element 1") != std::string::npos);
}

TEST_CASE("narrow update: a step that is refused changes nothing") {
    trainer<passing> t{seed{1}};
    trainer<twice> two{seed{1}};
    const auto refused = [](auto& of, const token_batch& batch) {
        const auto before = kept_by(of);
        const step_report report = of.step(batch);
        CHECK(kept_by(of) == before);
        CHECK(of.state().updates == 0);
        return report.refused;
    };
    const token_batch nothing = batch_of({1, 1}, llama.vocabulary, 2), good = odd_batch(llama.vocabulary, 1);
    CHECK(refused(t, nothing) == "none of the batch's tokens has a target");
    CHECK(refused(two, nothing) == "none of the batch's tokens has a target");
    for (auto* weights : {&t.store().part(t.store().weights(), "blocks.2.mlp.norm.weight")[5], &two.store().part(two.store().weights(), "blocks.2.mlp.norm.weight")[5]})
        *weights = bf16(HUGE_VALF);
    CHECK(refused(t, good).find("the weight blocks.2.mlp.norm.weight is not finite at element 5") != std::string::npos);
    CHECK(refused(two, good).find("the weight blocks.2.mlp.norm.weight is not finite at element 5") != std::string::npos);
    CHECK(t.stopped() == "");
}

namespace {

/// The gradient of block 1's projection overflows, and nothing else: a norm's scale is 10^38 where the projection's weights are 0.
template <class Trainer>
token_batch overflow(Trainer& t) {
    t.store().part(t.store().weights(), "blocks.1.attention.norm.weight")[3] = bf16(1e38f);
    const auto projection = t.store().part(t.store().weights(), "blocks.1.attention.qkv.weight");
    for (std::size_t i = 3; i < projection.size(); i += static_cast<std::size_t>(llama.width)) projection[i] = bf16(0.0f);
    token_batch batch = odd_batch(llama.vocabulary, 7);
    batch.weights.assign(batch.tokens.size(), 1e6f);
    batch.counts.target_weight *= 1e6;
    return batch;
}

}  // namespace

TEST_CASE("narrow update: by bucket, a gradient that is not finite stops the run at its bucket; a snapshot lets it go on") {
    const scratch::folder here("narrow");
    const std::string path = here / "run";
    trainer<passing> t{seed{1}}, straight{seed{1}};
    const token_batch good = odd_batch(llama.vocabulary, 1);
    for (auto* each : {&t, &straight}) (void)each->step(good);
    save_snapshot(path, t, {});
    const token_batch bad = overflow(t);
    using layout = parameters_of_config<passing>;
    const auto all = t.store().first_moments();  // weights, rounded stochastically, may stay
    const std::vector<std::uint8_t> before(all.begin(), all.end());
    const std::vector<bf16> weights(t.store().weights().begin(), t.store().weights().end());
    const auto changed = [&](index bucket) {
        const auto at = static_cast<std::size_t>(layout::bucket_offset(bucket)), count = static_cast<std::size_t>(layout::bucket_size(bucket));
        return std::memcmp(before.data() + at, all.data() + at, count) != 0;
    };
    const std::string said = sentence_of<run_stopped>([&] { (void)t.step(bad); });
    CHECK(said.starts_with("step 2: the gradient of blocks.1 is not finite. "));
    CHECK(changed(layout::buckets - 1));
    CHECK(changed(3));
    CHECK_FALSE(changed(2));
    CHECK_FALSE(changed(1));
    CHECK_FALSE(changed(0));
    CHECK(std::memcmp(weights.data(), t.store().weights().data(), static_cast<std::size_t>(layout::block_offset(2)) * 2) == 0);
    CHECK(sentence_of<run_stopped>([&] { (void)t.step(good); }) == said);
    CHECK(sentence_of<run_stopped>([&] { save_snapshot(path, t, {}); }) == said);  // the last one stands

    (void)load_snapshot(path, t);
    CHECK(t.stopped() == "");
    CHECK(t.step(good).loss == straight.step(good).loss);
    CHECK(kept_by(t) == kept_by(straight));

    // Two passes know before anything changes.
    trainer<twice> two{seed{1}};
    const token_batch again = overflow(two);
    const auto kept = kept_by(two);
    CHECK(two.step(again).refused == "the gradient of blocks.1 is not finite");
    CHECK(kept_by(two) == kept);
}

TEST_CASE("narrow update: a snapshot goes on to the bit in the same formats, by bucket or not") {
    const scratch::folder here("narrow");
    const std::string path = here / "run";
    trainer<least> straight{seed{7}, {}, {no_clip}};
    const auto step = [](auto& t, std::uint64_t i) { return t.step(odd_batch(llama.vocabulary, i)).loss; };
    for (std::uint64_t i = 0; i < 3; ++i) (void)step(straight, i);
    save_snapshot(path, straight, {});
    trainer<passing> resumed{seed{1}};
    CHECK(load_snapshot(path, resumed).differences == std::vector<std::string>{"run: gradients was absent, is by_bucket"});
    for (std::uint64_t i = 3; i < 5; ++i) CHECK(step(straight, i) == step(resumed, i));
    CHECK(kept_by(straight) == kept_by(resumed));

    trainer<usual> floats{seed{1}};
    save_snapshot(path, floats, {});
    const safetensors_reader file(path);
    CHECK(file.file_size() - file.data_begin() == 12 * parameter_count<usual>);
}

namespace {

/// Moments of one kind as floats, parameter by parameter, in whichever format they are stored; `largest`: of the block in eight bits.
template <class Trainer, bool Signed>
std::vector<float> floats_of(Trainer& t, std::vector<float>* largest = nullptr) {
    std::vector<float> all;
    Trainer::store_type::layout_type::for_each([&](const std::string&, const parameter& p, index offset) {
        for (index i = offset; i < offset + p.size(); ++i) {
            const auto at = static_cast<std::size_t>(i);
            const auto stored = Signed ? t.store().first_moments()[at] : t.store().second_moments()[at];
            if constexpr (Trainer::store_type::in_eight_bits) {
                const float scale = (Signed ? t.store().first_scales() : t.store().second_scales())[at / 256];
                all.push_back(dynamic_values<Signed>::value(dynamic_values<Signed>::rank_of(stored)) * scale);
                if (largest != nullptr) largest->push_back(scale);
            } else {
                all.push_back(static_cast<float>(to_compute(stored)));
            }
        }
    });
    return all;
}
template <class Trainer>
std::vector<float> masters_of(Trainer& t) {
    std::vector<float> all;
    Trainer::store_type::layout_type::for_each([&](const std::string&, const parameter& p, index offset) {
        for (index i = offset; i < offset + p.size(); ++i) all.push_back(static_cast<float>(to_compute(t.store().masters()[static_cast<std::size_t>(i)])));
    });
    return all;
}

std::vector<float> rounded(std::vector<float> values) {
    for (float& x : values) x = static_cast<float>(bf16(x));
    return values;
}

}  // namespace

TEST_CASE("narrow update: a snapshot of other formats is converted, what becomes narrower rounded to the nearest") {
    const scratch::folder here("narrow");
    const std::string path = here / "run";
    const auto step = [](auto& t, std::uint64_t i) { return t.step(odd_batch(llama.vocabulary, i)).loss; };
    trainer<usual> floats{seed{7}};
    for (std::uint64_t i = 0; i < 4; ++i) (void)step(floats, i);
    save_snapshot(path, floats, {});
    const auto first = floats_of<trainer<usual>, true>(floats), second = floats_of<trainer<usual>, false>(floats), masters = masters_of(floats);

    trainer<alone> halves{seed{1}};
    CHECK(load_snapshot(path, halves).differences == std::vector<std::string>{"model: moments was absent, is bf16", "model: masters was absent, is false"});
    CHECK(masters_of(halves) == rounded(masters));
    CHECK(floats_of<trainer<alone>, true>(halves) == rounded(first));
    CHECK(floats_of<trainer<alone>, false>(halves) == rounded(second));
    CHECK(halves.state().steps == 4);

    trainer<least> eights{seed{1}};
    (void)load_snapshot(path, eights);
    CHECK(masters_of(eights) == rounded(masters));
    std::vector<float> largest, largest_square;
    const auto coded = floats_of<trainer<least>, true>(eights, &largest), coded_square = floats_of<trainer<least>, false>(eights, &largest_square);
    index far = 0, vanished = 0;
    for (std::size_t i = 0; i < first.size(); ++i) {
        far += std::abs(coded[i] - first[i]) > 0.0071f * largest[i] || std::abs(coded_square[i] - second[i]) > 0.0036f * largest_square[i];
        vanished += second[i] > 0 && coded_square[i] == 0;
    }
    CHECK(far == 0);
    CHECK(vanished == 0);
    const double exact = step(floats, 4), narrow = step(eights, 4);
    CHECK(narrow == doctest::Approx(exact).epsilon(0.01));

    // And back: what is there is there exactly, and nothing else is.
    save_snapshot(path, eights, {});
    const auto weights = masters_of(eights), codes = floats_of<trainer<least>, true>(eights), squares = floats_of<trainer<least>, false>(eights);
    trainer<usual> again{seed{2}};
    (void)load_snapshot(path, again);
    CHECK(masters_of(again) == weights);
    CHECK(floats_of<trainer<usual>, true>(again) == codes);
    CHECK(floats_of<trainer<usual>, false>(again) == squares);
    CHECK(step(again, 5) == doctest::Approx(step(eights, 5)).epsilon(1e-6));  // the same weights

    // Eight bits that stay eight bits are the same codes of the same scales.
    save_snapshot(path, eights, {});
    trainer<eight> with_masters{seed{3}};
    (void)load_snapshot(path, with_masters);
    const auto bits = [](auto run) { return std::vector(run.begin(), run.end()); };
    CHECK(bits(with_masters.store().first_moments()) == bits(eights.store().first_moments()));
    CHECK(bits(with_masters.store().second_moments()) == bits(eights.store().second_moments()));
    CHECK(bits(with_masters.store().first_scales()) == bits(eights.store().first_scales()));
    CHECK(bits(with_masters.store().second_scales()) == bits(eights.store().second_scales()));

    // Another model is refused whatever its formats, and changes nothing.
    const auto kept = kept_by(again);
    trainer<with_more_layers> deeper{seed{1}};
    save_snapshot(path, deeper, {});
    CHECK(sentence_of<bad_snapshot>([&] { load_snapshot(path, again); }).starts_with(path + ": a snapshot of another model: model: layers was 4, is 3"));
    CHECK(kept_by(again) == kept);
}

TEST_CASE("narrow update: what by_bucket cannot do is said") {
    CHECK(sentence_of<bad_argument>([] { trainer<passing>{seed{1}, {}, {1.0}}; }).find("knows no global norm to clip by") != std::string::npos);
    trainer<passing> t{seed{1}};
    const std::vector<token_batch> two{odd_batch(llama.vocabulary, 1), odd_batch(llama.vocabulary, 2)};
    CHECK(sentence_of<bad_argument>([&] { (void)t.step(std::span<const token_batch>(two)); }).find("one micro-batch; got 2") != std::string::npos);
    CHECK(sentence_of<bad_argument>([&] { (void)t.accumulate_gradients(two[0]); }).find("no gradients are kept") != std::string::npos);
    CHECK(t.step(two[0]).refused == "");
}

}  // namespace models
