// SPDX-License-Identifier: Apache-2.0
//
// The update between two steps: AdamW over a store with a bf16 copy (30 bytes a parameter) or with narrow state (12 to 16), the sum of
// squares of its gradients, the search for values that are not finite, and what fills a store.
#include <longspan/cuda/adamw.cuh>
#include <longspan/cuda/fill.cuh>
#include <longspan/cuda/narrow_adamw.cuh>
#include <longspan/cuda/reduce.cuh>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

void cases(const measure::memory_bound& report, index parameters) {
    const cudaStream_t stream = report.stream();
    const device_values<float> gradients(parameters), first(parameters), second(parameters), masters(parameters);
    const device_values<bf16> weights(parameters);
    const device_values<std::uint8_t> decays(std::vector<std::uint8_t>(static_cast<std::size_t>(ceil_div(parameters, 128)), 1));
    const device_values<adamw_update> updates(std::vector<adamw_update>(2, {.gradient_factor = 0.5, .kept = 0.99999, .step = 1e-4, .root_factor = 1.2}));
    const device_values<int> apply(std::vector<int>{1});
    const device_values<double> squares(1);
    const device_values<index> found(1);
    const device_values<std::byte> workspace(cuda::sum_of_squares_workspace());
    const auto all = [](const auto& values) { return std::span(values.data(), values.size()); };
    const auto n = static_cast<double>(parameters);
    const std::string of = ", " + std::to_string(parameters >> 20) + " Mi parameters";
    report.case_of("fill_normal" + of, 4 * n, [&] { cuda::fill_normal(stream, all(masters), 1, 1, 0.02); });
    cuda::fill_normal(stream, all(gradients), 1, 2, 1.0);
    report.case_of("round to bf16" + of, 6 * n, [&] { cuda::round(stream, all(masters), all(weights)); });
    report.case_of("sum_of_squares" + of, 4 * n, [&] { cuda::sum_of_squares(stream, all(gradients), squares.data(), workspace.data()); });
    report.case_of("first_non_finite" + of, 4 * n, [&] { cuda::first_non_finite(stream, all(gradients), found.data()); });
    report.case_of("adamw, bf16 copy" + of, 30 * n, [&] {
        cuda::adamw(stream, all(masters), all(weights), all(gradients), all(first), all(second), decays.data(), updates.data(), apply.data());
    });
    const device_values<std::uint8_t> codes(parameters), more_codes(parameters);
    const device_values<float> scales(parameters / 256), more_scales(parameters / 256);
    const device_values<bf16> halves(parameters), more_halves(parameters);
    const device_values<std::uint64_t> seed(std::vector<std::uint64_t>{1});
    const device_values<index> number(std::vector<index>{1});
    const rounding_source source{seed.data(), number.data()};
    const update_run<void, bf16, float, eight_bit> coded{.weights = weights.data(), .gradients = gradients.data(),
                                                         .first = {codes.data(), scales.data()}, .second = {more_codes.data(), more_scales.data()},
                                                         .decays = decays.data(), .size = parameters};
    const update_run<void, bf16, float, bf16> halved{.weights = weights.data(), .gradients = gradients.data(), .first = {halves.data()},
                                                     .second = {more_halves.data()}, .decays = decays.data(), .size = parameters};
    report.case_of("adamw, moments in eight bits, no masters" + of, (12 + 4.0 / 64) * n,
                   [&] { cuda::narrow_adamw(stream, coded, updates.data(), source, apply.data()); });
    report.case_of("adamw, moments in bf16, no masters" + of, 16 * n,
                   [&] { cuda::narrow_adamw(stream, halved, updates.data(), source, apply.data()); });
    report.case_of("adamw, no copy" + of, 28 * n, [&] {
        cuda::adamw(stream, all(masters), all(masters), all(gradients), all(first), all(second), decays.data(), updates.data(), apply.data());
    });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases(report, longspan::index{1} << 24);
    longspan::cases(report, longspan::index{1} << 27);
    longspan::cases(report, longspan::index{1} << 30);
}
