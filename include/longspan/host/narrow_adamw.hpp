// SPDX-License-Identifier: Apache-2.0
//
// The AdamW update of host/adamw.hpp where its state is stored in less than float: moments in bf16, rounded stochastically, or in eight
// bits with one scale per 256 elements, and weights in bf16 with or without a master (precision/update_storage.hpp). The arithmetic is
// the same, in float, on what the formats hold; each result is rounded once, to its format. Formats are types: nothing is asked at run
// time.
//
// A block of 256 elements is done at a time, in 4 KiB of stack. Traffic, of weights without masters: 12 bytes a parameter with
// moments in eight bits, 16 in bf16, where float moments and masters take 30.
//
// Deterministic: an element's bits are a function of its block's numbers, of the key and of its place in the store: not of threads, nor
// of how the store is cut into runs.
#pragma once

#include <concepts>
#include <string>

#include <longspan/core/adamw_update.hpp>
#include <longspan/core/error.hpp>
#include <longspan/precision/stochastic.hpp>
#include <longspan/precision/update_run.hpp>

namespace longspan::host {

/// Updates the run's state in place from its gradient sums: elements whose byte of `decays` is set by updates[0], others by updates[1].
/// `key` is that of the update's draws (rounding_source). Throws bad_argument, before anything changes, where the run does not begin
/// and end at multiples of its granularity.
template <class Master, class Weight, class Gradient, class Moment>
void narrow_adamw_step(const update_run<Master, Weight, Gradient, Moment>& run, const adamw_update* updates, philox_key key);

}  // namespace longspan::host

#include <longspan/host/detail/narrow_adamw.hpp>
