// SPDX-License-Identifier: Apache-2.0
//
// What a CUDA call that failed becomes: an exception that says which op asked, what it asked for, and CUDA's own name for the
// reason. No CUDA header is needed to catch it.
#pragma once

#include <string>
#include <utility>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// "attention forward: cudaErrorMemoryAllocation (out of memory); 1024 bytes were asked for".
struct device_error : error {
    device_error(const char* op_, std::string name_, const std::string& reason, bytes asked_ = 0)
        : error(std::string(op_) + ": " + name_ + " (" + reason + ")" +
                (asked_ > 0 ? "; " + std::to_string(asked_) + " bytes were asked for" : std::string())),
          op(op_), name(std::move(name_)), asked(asked_) {}

    const char* op;    ///< a literal
    std::string name;  ///< CUDA's: "cudaErrorMemoryAllocation", "CUBLAS_STATUS_NOT_SUPPORTED"
    bytes asked = 0;   ///< 0 when no memory was asked for
};

}  // namespace longspan::cuda
