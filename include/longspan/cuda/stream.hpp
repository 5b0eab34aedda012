// SPDX-License-Identifier: Apache-2.0
//
// Which queue of a GPU an op's work goes to. A stream is the caller's: an op puts kernels on it and returns; nothing here waits,
// and nothing goes to the default stream by accident, since a stream_ref cannot be made from 0. No CUDA header is needed.
#pragma once

#include <cstddef>

struct CUstream_st;  // what a cudaStream_t points to

namespace longspan::cuda {

/// A non-owning name of a cudaStream_t.
class stream_ref {
public:
    stream_ref() = delete;
    stream_ref(int) = delete;             // 0 would mean the legacy default stream, which waits for every other
    stream_ref(std::nullptr_t) = delete;
    /// Implicit: an op takes the caller's own stream as it is.
    constexpr stream_ref(CUstream_st* stream) : stream_(stream) {}

    [[nodiscard]] constexpr operator CUstream_st*() const { return stream_; }

private:
    CUstream_st* stream_;
};

}  // namespace longspan::cuda
