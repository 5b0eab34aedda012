// SPDX-License-Identifier: Apache-2.0
//
// What can go wrong at run time, as types. Every message says what was expected, what came, and where. Nothing in longspan
// calls abort or exit, prints, or carries on with a clamped value.
#pragma once

#include <stdexcept>
#include <string>

#include <longspan/core/types.hpp>

namespace longspan {

/// The base of everything that longspan throws.
struct error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// An argument of a call is outside what the call can take: a shape, a null pointer, an id beyond the vocabulary.
struct bad_argument : error {
    using error::error;
};

/// A file or folder of text is missing, empty, unreadable, or too small for what was asked.
struct bad_corpus : error {
    using error::error;
};

/// A file that should hold a run (a snapshot, a log) is truncated, corrupt, hostile, or belongs to something else.
struct bad_snapshot : error {
    using error::error;
};

/// Writing failed (a full disk, a missing folder, no permission); what stood there before still stands.
struct write_failed : error {
    using error::error;
};

/// A residual stream left the range of its fixed point (precision/fixed_point.hpp), so what was computed of it means nothing.
struct stream_overflow : error {
    using error::error;
};

/// A plan needs more bytes than it was given.
struct out_of_memory : error {
    using error::error;
    out_of_memory(const std::string& sentence, bytes room_) : error(sentence), room(room_) {}

    bytes room = -1;  ///< what a plan may take at most; −1 where nobody knows
};

/// Throws Error with the sentence that `sentence()` builds, unless `holds`. The sentence is built only when it is needed.
template <class Error = bad_argument, class Sentence>
constexpr void expects(bool holds, Sentence&& sentence) {
    if (!holds) throw Error(std::string(sentence()));
}

}  // namespace longspan
