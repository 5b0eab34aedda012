// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding in place, both directions: queries and keys where the projection left them, beside values that are not read.
#include <longspan/cuda/rotary.cuh>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

template <index Head, class T>
void cases(const measure::memory_bound& report, index tokens, index heads, index key_heads) {
    const cudaStream_t stream = report.stream();
    const index turned = (heads + key_heads) * Head, stride = turned + key_heads * Head;
    const device_values<T> x(tokens * stride, 0x3c);
    const device_values<float> cosines(tokens * Head / 2, 0x3c), sines(tokens * Head / 2, 0x3b);
    const matrix_view<T> view(x.data(), tokens, turned, stride);
    const matrix_view<float> cos(cosines.data(), tokens, Head / 2), sin(sines.data(), tokens, Head / 2);
    const double bytes = static_cast<double>(tokens) * static_cast<double>(2 * turned * index{sizeof(T)} + Head * index{sizeof(float)});
    const std::string of = std::string(" ") + format<T>::name + " [" + std::to_string(tokens) + ", " + std::to_string(turned) + " of " + std::to_string(stride) +
                           "], heads of " + std::to_string(Head);
    report.case_of("rotary" + of, bytes, [&] { cuda::rotary<Head>(stream, view, cos, sin, view, cuda::direction::forward); });
    report.case_of("rotary, backward" + of, bytes, [&] { cuda::rotary<Head>(stream, view, cos, sin, view, cuda::direction::backward); });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases<128, longspan::bf16>(report, 65536, 32, 8);
    longspan::cases<128, longspan::bf16>(report, 65536, 16, 4);
    longspan::cases<64, longspan::bf16>(report, 131072, 12, 12);
}
