// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace cuda_test {

/// How often the program has called operator new.
[[nodiscard]] long allocations();

}  // namespace cuda_test
