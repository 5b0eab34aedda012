// SPDX-License-Identifier: Apache-2.0
// expect: mixed<F> takes a two-byte storage format: bf16 or fp16; for float use fp32, for double fp64
#include <longspan/precision/policy.hpp>
namespace ls = longspan;

#ifdef MISUSE
using stored = ls::mixed_precision<float>::storage<ls::role::weight>;
#else
using stored = ls::mixed_precision<ls::bf16>::storage<ls::role::weight>;
#endif
