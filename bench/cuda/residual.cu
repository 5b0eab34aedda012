// SPDX-License-Identifier: Apache-2.0
//
// A branch joins the stream: with nothing drawn, with dropout, with stochastic depth, and the way back. Bytes: each tensor once.
#include <longspan/cuda/residual.cuh>

#include "timing.cuh"

namespace longspan {

using measure::device_values;

template <index Width, class T>
void cases(const measure::memory_bound& report, index tokens) {
    const cudaStream_t stream = report.stream();
    std::vector<piece> documents;
    for (index begin = 0; begin < tokens; begin += 1000) documents.push_back({begin, 0, begin});
    const device_values<piece> d_documents(documents);
    const piece_table pieces{{d_documents.data(), d_documents.size()}, tokens};
    const device_values<T> x(tokens * Width), branch(tokens * Width), y(tokens * Width);
    const auto view = [&](const device_values<T>& values) { return matrix_view(values.data(), tokens, Width); };
    const random_site site{.seed = 1, .step = 2, .layer = 3, .site = 4};
    const branch_drop none{}, dropped{dropout_rate(0.1), {}}, both{dropout_rate(0.1), depth_rate(0.01)};
    const double bytes = static_cast<double>(tokens * Width) * sizeof(T);
    const std::string of = std::string(" ") + format<T>::name + " [" + std::to_string(tokens) + ", " + std::to_string(Width) + "]";
    const auto forward = [&](const char* name, const branch_drop& drop) {
        report.case_of(name + of, 3 * bytes, [&] { cuda::residual<Width>(stream, view(x), view(branch), view(y), pieces, drop, site); });
    };
    const auto backward = [&](const char* name, const branch_drop& drop) {
        report.case_of(name + of, 2 * bytes, [&] { cuda::residual_backward<Width>(stream, view(branch), view(y), pieces, drop, site); });
    };
    forward("residual", none);
    forward("residual, dropout", dropped);
    forward("residual, dropout and depth", both);
    backward("residual_backward, dropout", dropped);
    backward("residual_backward, dropout and depth", both);
}

}  // namespace longspan

int main() {
    const measure::memory_bound report;
    longspan::cases<4096, longspan::bf16>(report, 65536);
    longspan::cases<768, longspan::bf16>(report, 262144);
    longspan::cases<1024, float>(report, 131072);
}
