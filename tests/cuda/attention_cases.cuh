// SPDX-License-Identifier: Apache-2.0
//
// What the tests of attention on a GPU share: its definition in plain loops, in any arithmetic and with any rounding of what a
// product reads, and problems with random operands in guarded device memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <longspan/cuda/attention.cuh>

#include "support.cuh"

namespace cuda_test {

using longspan::attention_segment;
using longspan::cuda::accumulate;
using longspan::cuda::score_arguments;

struct attention_sizes {
    index query_tokens = 0, key_tokens = 0, heads = 1, key_heads = 1, head_dim = 64;
};

struct attention_operands {
    std::vector<double> q, k, v, d_out;
    std::vector<float> slopes, sinks;  ///< empty: none
};

struct attention_results {
    std::vector<double> out, lse, dq, dk, dv, d_sinks;
};

/// `sees(ordinal, query, key)` over positions. `operand` rounds what tensor cores would read, `stored` what memory would hold.
template <class Real, class Sees, class Operand, class Stored>
attention_results plain_attention(const attention_sizes& n, const attention_operands& x, const std::vector<attention_segment>& segments,
                                  const score_arguments& values, Sees sees, Operand operand, Stored stored) {
    const index width = n.heads * n.head_dim, key_width = n.key_heads * n.head_dim, group = n.heads / n.key_heads;
    const auto zeros = [](index count) { return std::vector<double>(static_cast<std::size_t>(count), 0.0); };
    attention_results r{zeros(n.query_tokens * width), zeros(n.query_tokens * n.heads), zeros(n.query_tokens * width),
                        zeros(n.key_tokens * key_width), zeros(n.key_tokens * key_width), zeros(n.heads)};
    const double scale = values.scale != 0 ? values.scale : 1 / std::sqrt(static_cast<double>(n.head_dim));
    const longspan::philox_key key = longspan::key_of(values.site.site);
    const Real infinity = std::numeric_limits<Real>::infinity();
    const auto rounded = [&](const std::vector<double>& from) {
        std::vector<Real> to(from.size());
        for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<Real>(operand(from[i]));
        return to;
    };
    const std::vector<Real> q = rounded(x.q), k = rounded(x.k), v = rounded(x.v), d_out = rounded(x.d_out);
#pragma omp parallel for schedule(dynamic)
    for (index kh = 0; kh < n.key_heads; ++kh) {
        for (const attention_segment& s : segments) {
            const auto keys = static_cast<std::size_t>(s.key_count), width_here = static_cast<std::size_t>(n.head_dim);
            std::vector<Real> score(keys), slope(keys), kept(keys), dk(keys * width_here), dv(keys * width_here);
            for (index h = kh * group; h < (kh + 1) * group; ++h) {
                for (index i = 0; i < s.query_count; ++i) {
                    const index row = s.query_begin + i, query = s.query_position + i, at = row * width + h * n.head_dim;
                    Real top = x.sinks.empty() ? -infinity : static_cast<Real>(x.sinks[static_cast<std::size_t>(h)]);
                    for (index j = 0; j < s.key_count; ++j) {
                        const auto c = static_cast<std::size_t>(j);
                        const index position = s.key_position + j, from = (s.key_begin + j) * key_width + kh * n.head_dim;
                        score[c] = -infinity, slope[c] = static_cast<Real>(scale), kept[c] = 1;
                        if (!sees(s.ordinal, query, position)) continue;
                        Real sum = 0;
                        for (index d = 0; d < n.head_dim; ++d) sum += q[static_cast<std::size_t>(at + d)] * k[static_cast<std::size_t>(from + d)];
                        sum *= static_cast<Real>(scale);
                        if (values.soft_cap > 0) {
                            const Real t = std::tanh(sum / static_cast<Real>(values.soft_cap));
                            sum = t * static_cast<Real>(values.soft_cap), slope[c] *= 1 - t * t;
                        }
                        if (!x.slopes.empty()) {
                            sum -= static_cast<Real>(x.slopes[static_cast<std::size_t>(h)]) * static_cast<Real>(std::abs(query - position));
                        }
                        score[c] = sum;
                        top = std::max(top, sum);
                        if (values.dropout.active()) {
                            const auto drawn = longspan::philox4x32(longspan::attention_map_counter(s.document, h, query, position / 16), key);
                            kept[c] = longspan::byte_of(drawn, position % 16) >= values.dropout.threshold() ? values.dropout.template scale<Real>() : 0;
                        }
                    }
                    const auto stat = static_cast<std::size_t>(row * n.heads + h);
                    if (top == -infinity) {
                        r.lse[stat] = -std::numeric_limits<double>::infinity();
                        continue;
                    }
                    Real total = x.sinks.empty() ? Real(0) : std::exp(static_cast<Real>(x.sinks[static_cast<std::size_t>(h)]) - top);
                    for (Real& e : score) total += e = std::exp(e - top);
                    r.lse[stat] = static_cast<double>(top + std::log(total));
                    std::vector<Real> out(width_here), dq(width_here);
                    for (std::size_t j = 0; j < keys; ++j) {
                        score[j] /= total;
                        const Real p = static_cast<Real>(operand(static_cast<double>(score[j] * kept[j])));
                        const auto from = static_cast<std::size_t>((s.key_begin + static_cast<index>(j)) * key_width + kh * n.head_dim);
                        for (std::size_t d = 0; d < width_here; ++d) {
                            out[d] += p * v[from + d];
                            dv[j * width_here + d] += p * d_out[static_cast<std::size_t>(at) + d];
                        }
                    }
                    Real delta = 0;
                    for (std::size_t d = 0; d < width_here; ++d) {
                        r.out[static_cast<std::size_t>(at) + d] = stored(static_cast<double>(out[d]));
                        delta += static_cast<Real>(x.d_out[static_cast<std::size_t>(at) + d]) * static_cast<Real>(r.out[static_cast<std::size_t>(at) + d]);
                    }
                    for (std::size_t j = 0; j < keys; ++j) {
                        const auto from = static_cast<std::size_t>((s.key_begin + static_cast<index>(j)) * key_width + kh * n.head_dim);
                        Real dp = 0;
                        for (std::size_t d = 0; d < width_here; ++d) dp += d_out[static_cast<std::size_t>(at) + d] * v[from + d];
                        const Real ds = static_cast<Real>(operand(static_cast<double>(score[j] * (dp * kept[j] - delta) * slope[j])));
                        for (std::size_t d = 0; d < width_here; ++d) {
                            dq[d] += ds * k[from + d];
                            dk[j * width_here + d] += ds * q[static_cast<std::size_t>(at) + d];
                        }
                    }
                    for (std::size_t d = 0; d < width_here; ++d) r.dq[static_cast<std::size_t>(at) + d] = stored(static_cast<double>(dq[d]));
                    if (!x.sinks.empty()) {
                        r.d_sinks[static_cast<std::size_t>(h)] -=
                            static_cast<double>(std::exp(static_cast<Real>(x.sinks[static_cast<std::size_t>(h)]) - top) / total * delta);
                    }
                }
            }
            for (std::size_t j = 0; j < keys; ++j) {
                const auto to = static_cast<std::size_t>((s.key_begin + static_cast<index>(j)) * key_width + kh * n.head_dim);
                for (std::size_t d = 0; d < width_here; ++d) {
                    r.dk[to + d] = stored(static_cast<double>(dk[j * width_here + d]));
                    r.dv[to + d] = stored(static_cast<double>(dv[j * width_here + d]));
                }
            }
        }
    }
    return r;
}

/// Documents end to end, queries and keys alike.
inline std::vector<attention_segment> documents(const std::vector<index>& lengths) {
    std::vector<attention_segment> result;
    index begin = 0;
    for (const index n : lengths) {
        const index i = static_cast<index>(result.size());
        result.push_back({begin, n, 0, begin, n, 0, i, 1000 + 7 * i});
        begin += n;
    }
    return result;
}

/// Random operands on the device, results between guard zones, and both references.
template <class P, index HeadDim, class Score, class T>
struct attention_problem {
    using op = longspan::cuda::attention<P, HeadDim, Score>;
    using arguments = typename P::arguments;
    using operand = longspan::cuda::detail::operand_of<T, typename Score::rounding>;

    attention_sizes n;
    std::vector<attention_segment> segments;
    arguments pattern_arguments, host_arguments;
    const arguments* from_device = nullptr;  ///< if not null, where kernels find the pattern's arguments
    score_arguments values;
    attention_operands host;
    index gap;  ///< elements between one row's end and the next one's beginning
    own_stream stream;
    device_array<T> q, k, v, d_out, out, dq, dk, dv;
    device_array<float> lse, slopes, sinks, d_sinks;
    device_array<std::byte> segment_memory, workspace;

    attention_problem(std::vector<attention_segment> segments_, index heads, index key_heads, unsigned seed, arguments device_arguments = {},
                      arguments host_arguments_ = {}, double spread = 1, index gap_ = 8)
        : n{0, 0, heads, key_heads, HeadDim}, segments(std::move(segments_)), pattern_arguments(device_arguments), host_arguments(host_arguments_),
          gap(gap_), q(room(size_of(segments).first, heads)), k(room(size_of(segments).second, key_heads)),
          v(room(size_of(segments).second, key_heads)), d_out(room(size_of(segments).first, heads)), out(room(size_of(segments).first, heads)),
          dq(room(size_of(segments).first, heads)), dk(room(size_of(segments).second, key_heads)), dv(room(size_of(segments).second, key_heads)),
          lse(static_cast<std::size_t>(size_of(segments).first * heads)), slopes(static_cast<std::size_t>(heads)),
          sinks(static_cast<std::size_t>(heads)), d_sinks(static_cast<std::size_t>(heads)),
          segment_memory(static_cast<std::size_t>(
              longspan::cuda::attention_segment_memory(size_of(segments).first, size_of(segments).second, static_cast<index>(segments.size())))),
          workspace(static_cast<std::size_t>(op::backward_workspace(size_of(segments).first, heads, key_heads))) {
        n.query_tokens = size_of(segments).first, n.key_tokens = size_of(segments).second;
        host.q = fill(q, n.query_tokens, heads, seed, spread);
        host.k = fill(k, n.key_tokens, key_heads, seed + 1, 1);
        host.v = fill(v, n.key_tokens, key_heads, seed + 2, 1);
        host.d_out = fill(d_out, n.query_tokens, heads, seed + 3, 1);
        if (Score::alibi) {
            for (index h = 0; h < heads; ++h) host.slopes.push_back(0.3f / static_cast<float>(h + 1));
            slopes.put(host.slopes);
            values.slopes = slopes.data();
        }
        if (Score::sink) {
            host.sinks = random_values<float>(static_cast<std::size_t>(heads), seed + 4);
            sinks.put(host.sinks);
            values.sinks = sinks.data();
        }
        d_sinks.zero();
        if (Score::soft_cap) values.soft_cap = 1.5;
        if (Score::dropout) {
            values.dropout = longspan::dropout_rate(0.3);
            values.site = longspan::random_site{.seed = 11, .step = 5, .layer = 2, .site = 9};
        }
        longspan::cuda::check(cudaMemcpy(segment_memory.data(), segments.data(), segments.size() * sizeof(attention_segment), cudaMemcpyHostToDevice), "test");
        settle();
        longspan::cuda::schedule_segments(stream, device_segments(), static_cast<index>(segments.size()), n.query_tokens, n.key_tokens);
    }

    static std::pair<index, index> size_of(const std::vector<attention_segment>& list) {
        index queries = 0, keys = 0;
        for (const attention_segment& s : list) queries = std::max(queries, s.query_begin + s.query_count), keys = std::max(keys, s.key_begin + s.key_count);
        return {queries, keys};
    }
    [[nodiscard]] std::size_t room(index tokens, index count) const { return static_cast<std::size_t>(tokens * (count * HeadDim + gap)); }
    [[nodiscard]] longspan::pattern_values<arguments> given() const {
        if (from_device != nullptr) return from_device;
        return pattern_arguments;
    }
    [[nodiscard]] attention_segment* device_segments() { return reinterpret_cast<attention_segment*>(segment_memory.data()); }
    [[nodiscard]] std::span<const attention_segment> device_span() { return {device_segments(), segments.size()}; }
    template <class A>
    [[nodiscard]] auto view(A& array, index tokens, index count) {
        return array.view(tokens, count * HeadDim, count * HeadDim + gap);
    }
    std::vector<double> fill(device_array<T>& array, index tokens, index count, unsigned seed, double spread) {
        std::vector<T> all(array.size());
        std::memset(all.data(), 0xFF, all.size() * sizeof(T));  // NaN between rows
        const std::vector<T> values_here = random_values<T>(static_cast<std::size_t>(tokens * count * HeadDim), seed, spread);
        for (index r = 0; r < tokens; ++r)
            for (index c = 0; c < count * HeadDim; ++c)
                all[static_cast<std::size_t>(r * (count * HeadDim + gap) + c)] = values_here[static_cast<std::size_t>(r * count * HeadDim + c)];
        array.put(all);
        return doubles(values_here);
    }
    [[nodiscard]] std::vector<double> take(const device_array<T>& array, index tokens, index count) const {
        const std::vector<double> all = doubles(array.get());
        std::vector<double> rows;
        for (index r = 0; r < tokens; ++r) {
            const auto begin = all.begin() + r * (count * HeadDim + gap);
            rows.insert(rows.end(), begin, begin + count * HeadDim);
        }
        return rows;
    }

    /// What was asked of the default stream is done before ours goes on.
    static void settle() { longspan::cuda::check(cudaDeviceSynchronize(), "test"); }

    void forward(bool merge = false) {
        settle();
        op::forward(stream, view(q, n.query_tokens, n.heads), view(k, n.key_tokens, n.key_heads), view(v, n.key_tokens, n.key_heads), device_span(),
                    given(), values, view(out, n.query_tokens, n.heads), lse.view(n.query_tokens, n.heads), workspace.data(), merge);
    }
    void backward(accumulate add = accumulate::no, longspan::cuda::statistic_view<const float> delta = {}) {
        settle();
        op::backward(stream, view(q, n.query_tokens, n.heads), view(k, n.key_tokens, n.key_heads), view(v, n.key_tokens, n.key_heads), device_span(),
                     given(), values, view(d_out, n.query_tokens, n.heads), view(out, n.query_tokens, n.heads),
                     lse.view(n.query_tokens, n.heads), delta, view(dq, n.query_tokens, n.heads), view(dk, n.key_tokens, n.key_heads),
                     view(dv, n.key_tokens, n.key_heads), add, Score::sink ? d_sinks.data() : nullptr, workspace.data());
    }
    [[nodiscard]] attention_results results() {
        stream.wait();
        return {take(out, n.query_tokens, n.heads), doubles(lse.get()), take(dq, n.query_tokens, n.heads), take(dk, n.key_tokens, n.key_heads),
                take(dv, n.key_tokens, n.key_heads), doubles(d_sinks.get())};
    }
    [[nodiscard]] auto sees() const {
        return [this](index ordinal, index query, index key) { return P::contains(host_arguments, ordinal, query, key); };
    }
    [[nodiscard]] attention_results exact() const {
        const auto same = [](double x) { return x; };
        return plain_attention<double>(n, host, segments, values, sees(), same, same);
    }
    /// What one product after another, without fusing, would make of the same operands.
    [[nodiscard]] attention_results unfused() const {
        return plain_attention<float>(
            n, host, segments, values, sees(), [](double x) { return static_cast<double>(longspan::round_to<operand>(static_cast<float>(x))); },
            [](double x) { return static_cast<double>(longspan::round_to<T>(static_cast<float>(x))); });
    }
};

/// Errors against the exact results, within 1.05 of the unfused ones. An error is a mean over roundings, so it is taken over all the
/// problems that were added: in a single small one, where a few rows outweigh the rest, even arithmetic that differs from the unfused
/// one in nothing but the order of its roundings comes to between 0.82 and 1.06 of it.
class accuracy {
public:
    void add(const attention_results& got, const attention_results& exact, const attention_results& unfused) {
        add(out_, got.out, exact.out, unfused.out);
        add(dq_, got.dq, exact.dq, unfused.dq);
        add(dk_, got.dk, exact.dk, unfused.dk);
        add(dv_, got.dv, exact.dv, unfused.dv);
        add(d_sinks_, got.d_sinks, exact.d_sinks, unfused.d_sinks);
        lse_ = worse(lse_, furthest(got.lse, exact.lse)), unfused_lse_ = worse(unfused_lse_, furthest(unfused.lse, exact.lse));
    }
    /// `floor`: the error of a result that is as good as exact.
    void check(double floor) const {
        check("out", out_, floor), check("dq", dq_, floor), check("dk", dk_, floor), check("dv", dv_, floor), check("d_sinks", d_sinks_, floor);
        CHECK_MESSAGE(lse_ <= 1.05 * unfused_lse_ + 2e-6, "lse: " << lse_ << ", unfused " << unfused_lse_);
    }

private:
    struct sums {
        double error = 0, unfused = 0, size = 0;  ///< squares
    };
    sums out_, dq_, dk_, dv_, d_sinks_;
    double lse_ = 0, unfused_lse_ = 0;

    static void add(sums& to, const std::vector<double>& got, const std::vector<double>& exact, const std::vector<double>& unfused) {
        REQUIRE(got.size() == exact.size());
        for (std::size_t i = 0; i < exact.size(); ++i) {
            to.error += (got[i] - exact[i]) * (got[i] - exact[i]);
            to.unfused += (unfused[i] - exact[i]) * (unfused[i] - exact[i]);
            to.size += exact[i] * exact[i];
        }
    }
    static void check(const std::string& what, const sums& s, double floor) {
        const double size = s.size > 0 ? s.size : 1, error = std::sqrt(s.error / size), allowed = 1.05 * std::sqrt(s.unfused / size) + floor;
        CHECK_MESSAGE(error <= allowed, what << ": " << error << ", allowed " << allowed);
    }
    static double worse(double a, double b) { return std::isnan(a) || b <= a ? a : b; }  // NaN sticks
    static double furthest(const std::vector<double>& a, const std::vector<double>& b) {
        double worst = 0;
        for (std::size_t i = 0; i < b.size(); ++i) {
            if (a[i] != b[i]) worst = worse(worst, std::abs(a[i] - b[i]));
        }
        return worst;
    }
};
inline void check_accuracy(const attention_results& got, const attention_results& exact, const attention_results& unfused, double floor) {
    accuracy of;
    of.add(got, exact, unfused);
    of.check(floor);
}

}  // namespace cuda_test
