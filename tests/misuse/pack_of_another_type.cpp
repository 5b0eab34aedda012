// SPDX-License-Identifier: Apache-2.0
// expect: pack<float> loads float, bf16, fp16 and fixed32; pack<double> loads double and fixed64
#include <longspan/host/pack.hpp>
namespace ls = longspan;

#ifdef MISUSE
using stored = double;
#else
using stored = ls::fp16;
#endif
float first(const stored* from) { return ls::host::pack<float>::load(from)[0]; }
