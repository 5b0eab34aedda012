// SPDX-License-Identifier: Apache-2.0
//
// Which queue of a GPU an op's work goes to. A stream is the caller's: an op puts kernels on it and returns; nothing here waits,
// and nothing goes to the default stream by accident: neither 0 nor a variable that was never set makes a stream_ref. Who means the
// default stream says so. No CUDA header is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <longspan/core/error.hpp>

struct CUstream_st;  // what a cudaStream_t points to

namespace longspan::cuda {

/// A non-owning name of a cudaStream_t.
class stream_ref {
public:
    stream_ref() = delete;
    stream_ref(int) = delete;             // 0 would mean the legacy default stream, which waits for every other
    stream_ref(std::nullptr_t) = delete;
    /// Implicit: an op takes the caller's own stream as it is. Throws bad_argument for a null one.
    constexpr stream_ref(CUstream_st* stream) : stream_(stream) {
        expects(stream != nullptr, [] {
            return std::string("stream: expected one that was created, got null; the default stream is named by stream_ref::legacy_default()");
        });
    }
    /// The default stream that waits for every other stream of the device and they for it, however the program was compiled
    /// (cudaStreamLegacy). It cannot be captured.
    [[nodiscard]] static stream_ref legacy_default() { return reinterpret_cast<CUstream_st*>(std::uintptr_t{1}); }

    [[nodiscard]] constexpr operator CUstream_st*() const { return stream_; }

private:
    CUstream_st* stream_;
};

}  // namespace longspan::cuda
