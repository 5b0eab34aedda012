// SPDX-License-Identifier: Apache-2.0
// expect: hopper attention: a head is 64, 128 or 256 elements wide
#include <longspan/cuda/hopper/attention.cuh>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr ls::index head_dim = 80;
#else
constexpr ls::index head_dim = 128;
#endif
template struct ls::cuda::hopper::attention<ls::causal_pattern, head_dim>;
