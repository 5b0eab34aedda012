// SPDX-License-Identifier: Apache-2.0
//
// The AdamW update of cuda/adamw.cuh where its state is stored in less than float: moments in bf16, rounded stochastically, or in eight
// bits with one scale per 256 elements, weights in bf16 with or without a master (the twin of host/narrow_adamw.hpp; the formats:
// precision/update_storage.hpp). One launch over a run of buckets, one read and one write of everything: of weights without masters 12
// bytes a parameter with moments in eight bits, 16 in bf16.
//
// A warp takes 256 elements, eight a lane: a block of the eight-bit format, whose largest magnitudes are two maxima over the warp, and a
// lane's draw of 128 random bits. Thread blocks stay and walk the run, so that the tables of the eight-bit values are made once.
// Scalars and keys come from device memory, as in cuda/adamw.cuh.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include <longspan/core/adamw_update.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/stream.hpp>
#include <longspan/precision/stochastic.hpp>
#include <longspan/precision/update_run.hpp>

namespace longspan::cuda {

/// Updates the run's state in place from its gradient sums: elements whose byte of `decays` is set by updates[0], others by updates[1];
/// nothing changes where *apply is 0. Draws of stochastic rounding hang on `source`. All pointers are device memory, arrays of elements
/// at multiples of 16 bytes. Throws bad_argument where the run does not begin and end at multiples of its granularity. Deterministic:
/// the arithmetic is the host's, to the bit, however the store is cut into runs.
template <class Master, class Weight, class Gradient, class Moment>
void narrow_adamw(stream_ref stream, const update_run<Master, Weight, Gradient, Moment>& run, const adamw_update* updates,
                  const rounding_source& source, const int* apply);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/narrow_adamw.cuh>
