// SPDX-License-Identifier: Apache-2.0
//
// Activations of an MLP and their gradients, with the activation made again for the weight gradient beside. Bytes: each tensor once.
#include <longspan/cuda/activation.cuh>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

template <index Hidden, class T>
void cases(const measure::memory_bound& report, index tokens) {
    const cudaStream_t stream = report.stream();
    const device_values<T> x(tokens * 2 * Hidden, 0x3c), y(tokens * Hidden, 0x3b), dx(tokens * 2 * Hidden), again(tokens * Hidden);
    const auto gated = [&](const device_values<T>& values) { return matrix_view(values.data(), tokens, 2 * Hidden); };
    const auto plain = [&](const device_values<T>& values) { return matrix_view(values.data(), tokens, Hidden); };
    const double bytes = static_cast<double>(tokens * Hidden) * sizeof(T);
    const std::string of = std::string(" ") + format<T>::name + " [" + std::to_string(tokens) + ", " + std::to_string(Hidden) + "]";
    report.case_of("silu_gated" + of, 3 * bytes, [&] { cuda::silu_gated<Hidden>(stream, gated(x), plain(y)); });
    report.case_of("silu_gated_backward" + of, 5 * bytes, [&] { cuda::silu_gated_backward<Hidden>(stream, plain(y), gated(x), gated(dx)); });
    report.case_of("silu_gated_backward, and again" + of, 6 * bytes, [&] {
        cuda::silu_gated_backward<Hidden>(stream, plain(y), gated(x), gated(dx), plain(again));
    });
    report.case_of("gelu_tanh" + of, 2 * bytes, [&] { cuda::gelu_tanh<Hidden>(stream, plain(x), plain(y)); });
    report.case_of("gelu_tanh_backward, and again" + of, 4 * bytes, [&] {
        cuda::gelu_tanh_backward<Hidden>(stream, plain(y), plain(x), plain(dx), plain(again));
    });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases<11008, longspan::bf16>(report, 16384);
    longspan::cases<3072, longspan::bf16>(report, 65536);
}
