// SPDX-License-Identifier: Apache-2.0
//
// Norms, alone and with a residual addition, and their gradients. Bytes: each tensor once; weights and statistics of a row aside.
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/norm_sizes.hpp>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

template <index Width, class T>
void cases(const measure::memory_bound& report, index tokens) {
    const cudaStream_t stream = report.stream();
    const device_values<T> x(tokens * Width, 0x3c), branch(tokens * Width, 0x3b), y(tokens * Width, 0x3a);
    const device_values<float> weight(Width, 0x3c), bias(Width, 0x3b), mean(tokens), rstd(tokens), dweight(Width), dbias(Width);
    const device_values<std::byte> workspace(cuda::norm_workspace(Width));
    const auto view = [&](const device_values<T>& values) { return matrix_view(values.data(), tokens, Width); };
    const double bytes = static_cast<double>(tokens * Width) * sizeof(T);
    const std::string of = std::string(" ") + format<T>::name + " [" + std::to_string(tokens) + ", " + std::to_string(Width) + "]";
    report.case_of("rms_norm" + of, 2 * bytes, [&] { cuda::rms_norm<Width>(stream, view(x), weight.data(), 1e-5, view(y), rstd.data()); });
    report.case_of("add_rms_norm" + of, 4 * bytes, [&] {
        cuda::add_rms_norm<Width>(stream, view(x), view(branch), view(x), weight.data(), 1e-5, view(y), rstd.data());
    });
    report.case_of("rms_norm_backward, added" + of, 4 * bytes, [&] {
        cuda::rms_norm_backward<Width, cuda::accumulate::yes>(stream, view(y), view(x), weight.data(), rstd.data(), view(branch), dweight.data(), workspace.data());
    });
    report.case_of("layer_norm" + of, 2 * bytes, [&] {
        cuda::layer_norm<Width>(stream, view(x), weight.data(), bias.data(), 1e-5, view(y), mean.data(), rstd.data());
    });
    // What limits it: where the writes go? In place they go where the reads were.
    report.case_of("rms_norm, in place" + of, 2 * bytes, [&] { cuda::rms_norm<Width>(stream, view(x), weight.data(), 1e-5, view(x), rstd.data()); });
    report.case_of("add_layer_norm" + of, 4 * bytes, [&] {
        cuda::add_layer_norm<Width>(stream, view(x), view(branch), view(x), weight.data(), bias.data(), 1e-5, view(y), mean.data(), rstd.data());
    });
    report.case_of("layer_norm_backward, added" + of, 4 * bytes, [&] {
        cuda::layer_norm_backward<Width, cuda::accumulate::yes>(stream, view(y), view(x), weight.data(), mean.data(), rstd.data(), view(branch), dweight.data(),
                                                          dbias.data(), workspace.data());
    });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases<4096, longspan::bf16>(report, 65536);
    longspan::cases<2048, longspan::bf16>(report, 131072);
    longspan::cases<768, longspan::bf16>(report, 262144);
    longspan::cases<768, float>(report, 131072);
}
