// SPDX-License-Identifier: Apache-2.0
//
// The memory of one training step as a picture: a bar for every moment of it (each block forward, the turn, each block made again
// and backward, the update), as high as the bytes that are held then, in the colours of what they are for. The moments are not
// worked out a second time: the policy itself runs, on a stack of regions without contents, in an arena without memory, so the
// picture shows what a step does, and its highest bar is the plan's peak.
// Time and text grow with the layers. longspan.hpp does not include this header.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/memory/describe.hpp>
#include <longspan/model/plan.hpp>

namespace longspan {

/// What the bytes of a step are for.
enum class memory_use : unsigned char { standing, tables, streams, kept, rest, scratch };
inline constexpr std::size_t memory_uses = 6;

/// The bytes held at the fullest instant of one moment of a step.
struct step_moment {
    enum class work : unsigned char { forward, turn, again, backward, update } doing = work::forward;
    index block = -1;  ///< −1: none
    std::array<bytes, memory_uses> held{};
    bytes pinned = 0;  ///< of host memory, beside them

    [[nodiscard]] constexpr bytes total() const {
        bytes sum = 0;
        for (const bytes use : held) sum += use;
        return sum;
    }
};

namespace detail {

/// A stack of Config's sizes without contents, which writes down what a policy does.
template <configuration Config, class Backend>
class sized_stack {
    using memory_type = decoder_memory<model_of_config<Config>, attention_of<Config>, Backend>;

public:
    static constexpr index blocks = Config::shape.layers;

    /// Bytes of an arena for one use.
    template <memory_use Use>
    struct place {
        void take(arena& in, bytes wanted) {
            drop();
            in_ = &in, size_ = wanted, at_ = in.acquire(name, wanted);
        }
        void drop() noexcept {
            if (at_ != nullptr) in_->release(name, at_, size_);
            at_ = nullptr;
        }
        place() = default;
        place(const place&) = delete;
        ~place() { drop(); }

        // An arena's observer is told names: this one's first letter says the use.
        static constexpr char letters[2] = {static_cast<char>('0' + static_cast<int>(Use)), 0};
        static constexpr const char* name = letters;

    private:
        arena* in_ = nullptr;
        std::byte* at_ = nullptr;
        bytes size_ = 0;
    };
    struct stream : place<memory_use::streams> {
        void hold(arena& in, index tokens) { this->take(in, memory_type::stack(tokens).stream); }
    };
    class saved {
    public:
        void hold(arena& in, index tokens, cost from = cost::pass) {
            in_ = &in, tokens_ = tokens, from_ = from;
            kept_.take(in, size([&](cost worth) { return worth >= from; }));
        }
        void hold_rest() {
            rest_.take(*in_, size([&](cost worth) { return worth < from_; }));
        }
        void drop_rest() noexcept { rest_.drop(); }
        void drop() noexcept {
            rest_.drop();
            kept_.drop();
        }

    private:
        template <class Wanted>
        [[nodiscard]] bytes size(Wanted&& wanted) const {
            return memory_type::stack(tokens_).saved.only(wanted).peak(Backend::alignment);
        }
        arena* in_ = nullptr;
        index tokens_ = 0;
        cost from_ = cost::pass;
        place<memory_use::kept> kept_;
        place<memory_use::rest> rest_;
    };

    sized_stack(arena& memory, arena& pinned, std::array<bytes, memory_uses>& held, std::vector<step_moment>& moments, index tokens)
        : memory_(memory), pinned_(pinned), held_(held), moments_(moments), sizes_(memory_type::stack(tokens)), tokens_(tokens) {}

    [[nodiscard]] index tokens() const { return tokens_; }
    template <cost From = cost::output>
    void forward(index b, stream&, stream* y, saved&) {
        // Before the turn every block runs for the first time.
        const auto is_made = [&](cost worth) { return worth == cost::output ? y != nullptr : worth < From; };
        const layout made = sizes_.forward_scratch.only(is_made);
        note(turned_ ? step_moment::work::again : step_moment::work::forward, b, made);
    }
    void turn() {
        note(step_moment::work::turn, -1, sizes_.turn);
        turned_ = true;
    }
    [[nodiscard]] arena& pinned() { return pinned_; }
    template <class Regions>
    void leave(index, Regions&, Regions&) {}
    template <class Regions>
    void fetch(index, Regions&, Regions&) {}
    void wait(index) {}
    void backward(index b, stream&, saved&) { note(step_moment::work::backward, b, sizes_.backward_scratch); }
    template <block_half Half>
    void add_half(index b, stream&) {
        note(step_moment::work::forward, b, half<Half>().forward);
    }
    template <block_half Half>
    void reverse_half(index b, stream&) {
        note(step_moment::work::backward, b, half<Half>().reverse);
    }

private:
    template <block_half Half>
    [[nodiscard]] const half_bytes& half() const {
        return Half == block_half::attention ? sizes_.attention : sizes_.mlp;
    }
    void note(step_moment::work doing, index block, const layout& scratch) {
        place<memory_use::scratch> passing;
        passing.take(memory_, scratch.peak(Backend::alignment));
        moments_.push_back({doing, block, held_, pinned_.used()});
    }
    arena &memory_, &pinned_;
    std::array<bytes, memory_uses>& held_;
    std::vector<step_moment>& moments_;
    stack_bytes sizes_;
    index tokens_;
    bool turned_ = false;
};

/// An arena's region taken (1) or given back (−1), among the uses.
template <class Backend>
void add_to_use(void* uses, const char* name, std::size_t size, int sign) {
    (*static_cast<std::array<bytes, memory_uses>*>(uses))[static_cast<std::size_t>(name[0] - '0')] +=
        sign * round_up(static_cast<bytes>(size), Backend::alignment);
}

}  // namespace detail

/// What one training step of Config on Backend, with one micro-batch, holds from moment to moment. *Allocates.*
template <configuration Config, class Backend>
[[nodiscard]] std::vector<step_moment> step_moments() {
    using decoder = decoder_memory<model_of_config<Config>, attention_of<Config>, Backend>;
    constexpr index tokens = Config::batch.budget;
    std::vector<step_moment> moments;
    std::array<bytes, memory_uses> held{};
    const auto of = [](const layout& regions) { return regions.peak(Backend::alignment); };
    held[static_cast<std::size_t>(memory_use::standing)] = of(standing_memory<Config>());
    const std::array<bytes, memory_uses> standing = held;
    held[static_cast<std::size_t>(memory_use::tables)] =
        of(together("", decoder::tables(tokens, Config::batch.max_pieces), decoder::gradient_stream(tokens)));

    // An arena never touches its bytes, so these need not exist.
    auto* const nowhere = reinterpret_cast<std::byte*>(Backend::alignment);
    const std::span<std::byte> endless(nowhere, std::size_t{1} << 60);
    arena memory(endless, Backend::alignment), pinned(endless, Backend::alignment);
    using detail::add_to_use;
    memory.observe({&held,
                    [](void* all, const char* name, std::span<std::byte> region) { add_to_use<Backend>(all, name, region.size(), 1); },
                    [](void* all, const char* name, std::span<std::byte> region) { add_to_use<Backend>(all, name, region.size(), -1); }});
    detail::sized_stack<Config, Backend> stack(memory, pinned, held, moments, tokens);
    checkpoint_of<Config>::run(stack, memory, [](auto&) {}, [&](auto&) { stack.turn(); });

    step_moment update{step_moment::work::update, -1, standing, 0};
    update.held[static_cast<std::size_t>(memory_use::scratch)] =
        of(region("", Backend::update_workspace(parameters_of_config<Config>::size)));
    if constexpr (!update_of<Config>::in_buckets) moments.push_back(update);  // by bucket it is a part of the backward
    return moments;
}

/// The same as a complete SVG document. `room`, where it is given, is drawn as a line. *Allocates.*
template <configuration Config, class Backend>
[[nodiscard]] std::string draw_step(bytes room = 0) {
    const std::vector<step_moment> moments = step_moments<Config, Backend>();
    constexpr bytes peak = plan<Config, Backend>.peak(), away = plan<Config, Backend>.pinned;
    constexpr index left = 90, top = 46, height = 300;
    const auto count = static_cast<index>(moments.size());
    const index bar = count > 160 ? 4 : count > 60 ? 8 : 14, width = bar * count;
    const bytes most = room > peak ? room : peak;
    const auto number = [](index n) { return std::to_string(n); };
    const auto y_of = [&](bytes at) {
        return top + height - static_cast<index>(static_cast<double>(at) / static_cast<double>(most) * static_cast<double>(height) + 0.5);
    };

    static constexpr const char* colours[memory_uses] = {"#4a5568", "#a0aec0", "#2b6cb0", "#2f855a", "#d69e2e", "#c05621"};
    static constexpr const char* names[memory_uses] = {"parameters and their state", "tables, gradient stream", "streams", "kept of blocks",
                                                       "the rest of blocks", "scratch"};
    static constexpr const char* works[] = {"forward", "turn", "again", "backward", "update"};
    std::string bars, axis, legend;
    for (std::size_t i = 0; i < moments.size(); ++i) {
        const index x = left + bar * static_cast<index>(i);
        const step_moment& m = moments[i];
        const std::string work = works[static_cast<std::size_t>(m.doing)];
        bars += "<g><title>" + work + (m.block < 0 ? "" : " of block " + number(m.block)) + ": " +
                detail::grouped_bytes(m.total()) + " bytes" + (m.pinned > 0 ? ", and " + detail::grouped_bytes(m.pinned) + " pinned" : "") +
                "</title>";
        bytes below = 0;
        for (std::size_t use = 0; use < memory_uses; ++use) {
            if (m.held[use] == 0) continue;
            const index from = y_of(below), to = y_of(below + m.held[use]);
            bars += "<rect x=\"" + number(x) + "\" y=\"" + number(to) + "\" width=\"" + number(bar) + "\" height=\"" + number(from - to) +
                    "\" fill=\"" + colours[use] + "\"/>";
            below += m.held[use];
        }
        bars += "</g>\n";
        if (m.doing == step_moment::work::turn || m.doing == step_moment::work::update)
            axis += "<text x=\"" + number(x + bar / 2) + "\" y=\"" + number(top + height + 16) + "\" text-anchor=\"middle\">" +
                    work + "</text>\n";
    }
    const auto line = [&](bytes at, const char* what, const char* colour) {
        const std::string y = number(y_of(at));
        return "<path d=\"M" + number(left - 4) + " " + y + "H" + number(left + width) + "\" stroke=\"" + colour +
               "\" stroke-dasharray=\"4 3\"/><text x=\"" + number(left - 6) + "\" y=\"" + y + "\" text-anchor=\"end\" fill=\"" + colour +
               "\">" + what + " " + detail::grouped_bytes(at / MiB) + " MiB</text>\n";
    };
    for (std::size_t use = 0; use < memory_uses; ++use) {
        const std::string y = number(top + 6 + 18 * static_cast<index>(use)), x = number(left + width + 14);
        legend += "<rect x=\"" + x + "\" y=\"" + y + "\" width=\"10\" height=\"10\" fill=\"" + colours[use] + "\"/>";
        legend += "<text x=\"" + number(left + width + 30) + "\" y=\"" + number(top + 15 + 18 * static_cast<index>(use)) + "\">" +
                  names[use] +
                  "</text>\n";
    }
    const std::string across = number(left + width + 210), down = number(top + height + 30);
    const std::string heading = std::string(checkpoint_of<Config>::name) + ", " + detail::grouped_bytes(Config::batch.budget) +
                                " tokens: peak " + detail::grouped_bytes(peak) + " bytes" +
                                (away > 0 ? ", and " + detail::grouped_bytes(away) + " of pinned host memory" : "");
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + across + "\" height=\"" + down + "\" viewBox=\"0 0 " + across + " " +
           down + "\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"" +
           number(left) + "\" y=\"18\">" + heading + "</text>\n" + bars + axis + legend + line(peak, "peak", "#222") +
           (room > 0 ? line(room, "room", "#b91c1c") : "") + "</svg>\n";
}

}  // namespace longspan
