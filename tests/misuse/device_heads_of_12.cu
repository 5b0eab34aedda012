// SPDX-License-Identifier: Apache-2.0
// expect: cuda attention: a head is 8 to 256 elements wide, a multiple of 8
#include <longspan/cuda/attention.cuh>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::index head_dim = 12;
#else
constexpr ls::index head_dim = 16;
#endif
template struct ls::cuda::attention<ls::causal_pattern, head_dim>;
