// SPDX-License-Identifier: Apache-2.0
// expect: one backend behind the configuration, or none for ls::cuda::device
#include <longspan/cuda/trainer.hpp>
namespace cuda = longspan::cuda;

// What LONGSPAN_EXTERN and LONGSPAN_INSTANTIATE make of what stands behind the configuration.
#ifdef MISUSE
using backend = cuda::detail::named_or_device<cuda::device, cuda::portable_device>;
#else
using backend = cuda::detail::named_or_device<cuda::portable_device>;
#endif
