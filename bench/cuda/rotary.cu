// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding in place, both directions: queries and keys where the projection left them, beside values that are not read. The
// same with QK-norm: in one pass, and as the three ops that it stands for, both by the bytes of the one pass.
#include <longspan/cuda/head_norm_rotary.cuh>
#include <longspan/cuda/norm.cuh>
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

    const device_values<T> y(tokens * turned, 0x3b), d(tokens * stride, 0x3a), weight(2 * Head, 0x3c);
    const device_values<float> rstd(tokens * (heads + key_heads)), dweight(2 * Head);
    const device_values<std::byte> workspace(cuda::norm_workspace(Head));
    const auto columns = [&](const device_values<T>& values, bool keys, index apart) {
        return matrix_view<T>(values.data(), tokens, turned, apart).column_range(keys ? heads * Head : 0, (keys ? key_heads : heads) * Head);
    };
    const auto statistics = [&](bool keys) {
        return matrix_view<float>(rstd.data() + (keys ? tokens * heads : 0), tokens, keys ? key_heads : heads);
    };
    const auto weight_of = [&](bool keys) -> const T* { return weight.data() + (keys ? Head : 0); };
    const auto forward = [&](bool keys) { return normed_heads{columns(x, keys, stride), weight_of(keys), columns(y, keys, turned), statistics(keys)}; };
    const auto backward = [&](bool keys) {
        return normed_heads_gradient{columns(d, keys, stride), columns(x, keys, stride), weight_of(keys), statistics(keys), columns(d, keys, stride),
                                     dweight.data() + (keys ? Head : 0)};
    };
    report.case_of("head_norm_rotary" + of, bytes, [&] { cuda::head_norm_rotary<Head>(stream, forward(false), forward(true), 1e-5, cos, sin); });
    report.case_of("head_norm twice, rotary" + of, bytes, [&] {
        for (const bool keys : {false, true}) {
            const auto a = forward(keys);
            cuda::head_norm<Head>(stream, a.x, a.weight, 1e-5, a.y, a.rstd.data);
        }
        const matrix_view<T> all(y.data(), tokens, turned);
        cuda::rotary<Head>(stream, all, cos, sin, all, cuda::direction::forward);
    });
    const double back = bytes + static_cast<double>(tokens * turned) * sizeof(T);
    report.case_of("head_norm_rotary_backward" + of, back, [&] {
        cuda::head_norm_rotary_backward<Head>(stream, backward(false), backward(true), cos, sin, workspace.data());
    });
    report.case_of("rotary backward, head_norm_backward twice" + of, back, [&] {
        const matrix_view<T> all(d.data(), tokens, turned, stride);
        cuda::rotary<Head>(stream, all, cos, sin, all, cuda::direction::backward);
        for (const bool keys : {false, true}) {
            const auto a = backward(keys);
            cuda::head_norm_backward<Head>(stream, a.dy, a.x, a.weight, static_cast<const float*>(a.rstd.data), a.dx, a.dweight, workspace.data());
        }
    });
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases<128, longspan::bf16>(report, 65536, 32, 8);
    longspan::cases<128, longspan::bf16>(report, 65536, 16, 4);
    longspan::cases<64, longspan::bf16>(report, 131072, 12, 12);
}
