// SPDX-License-Identifier: Apache-2.0
//
// Is it text? A model trained on an archive by mistake shows a loss near eight bits and nothing else, so files are looked at
// before they are trusted. Text is UTF-8 (Unicode 15, table 3-7) without NUL bytes. Stray bytes are forgiven up to one in ten,
// which lets through Latin-1 prose with accents and sources with a few odd bytes, and nothing compressed: about half of the
// bytes of an archive are no UTF-8. Control characters other than white space, backspace and escape count as stray.
#pragma once

#include <string_view>

#include <longspan/core/types.hpp>

namespace longspan {

/// Counts what is no text in a stream of bytes, block by block. Memory: a few bytes, whatever the length of the stream.
class text_check {
public:
    /// More than one stray byte in `stray_share` makes a file binary.
    static constexpr index stray_share = 10;

    /// Looks at the next bytes of the stream.
    constexpr void add(std::string_view block) noexcept;

    [[nodiscard]] constexpr index size() const noexcept { return size_; }
    [[nodiscard]] constexpr index nul_bytes() const noexcept { return nul_; }
    /// Bytes that belong to no valid UTF-8 sequence, and control characters. Complete once the stream has ended.
    [[nodiscard]] constexpr index stray_bytes() const noexcept { return stray_ + seen_; }
    [[nodiscard]] constexpr bool is_text() const noexcept {
        return nul_ == 0 && stray_bytes() * stray_share <= size_;
    }

private:
    constexpr void add_byte(unsigned char byte) noexcept;

    index size_ = 0, nul_ = 0, stray_ = 0;
    int seen_ = 0;     // bytes of the sequence that is being read
    int missing_ = 0;  // continuation bytes that it still needs
    unsigned char lowest_ = 0x80, highest_ = 0xbf;  // bounds of its next byte
};

constexpr void text_check::add(std::string_view block) noexcept {
    for (const char c : block) add_byte(static_cast<unsigned char>(c));
    size_ += static_cast<index>(block.size());
}

constexpr void text_check::add_byte(unsigned char byte) noexcept {
    if (missing_ > 0) {
        if (lowest_ <= byte && byte <= highest_) {
            ++seen_;
            --missing_;
            lowest_ = 0x80, highest_ = 0xbf;
            if (missing_ == 0) seen_ = 0;
            return;
        }
        stray_ += seen_;  // the sequence broke off; this byte begins something new
        seen_ = missing_ = 0;
        lowest_ = 0x80, highest_ = 0xbf;
    }
    if (byte < 0x80) {
        const bool spacing = (byte >= 0x08 && byte <= 0x0d) || byte == 0x1b;
        if (byte == 0) ++nul_;
        if ((byte < 0x20 && !spacing) || byte == 0x7f) ++stray_;
    } else if (byte >= 0xc2 && byte <= 0xf4) {
        seen_ = 1;
        missing_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        if (byte == 0xe0) lowest_ = 0xa0;   // shorter encodings exist
        if (byte == 0xed) highest_ = 0x9f;  // surrogates are no characters
        if (byte == 0xf0) lowest_ = 0x90;
        if (byte == 0xf4) highest_ = 0x8f;  // beyond U+10FFFF
    } else {
        ++stray_;
    }
}

}  // namespace longspan
