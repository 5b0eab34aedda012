// SPDX-License-Identifier: Apache-2.0
//
// What the parts of a step have to do, as amounts: operations of dense products and of attention, bytes that products and passes over
// memory read and write, kernels. Bytes are those of the tensors that an op names, each read or written once; the lines below follow those
// of layer/. A token and a block, c the width, q of the queries, p = q + 2k of the projection, f hidden (first = 2f where gated):
//
//     products   2·c·p + 2·q·c + 2·c·first + 2·f·c forward, twice that backward
//     attention  4·q a pair forward, 10·q backward: scores, dP, dV, dK, dQ
//     passes     norms, rotary, activations, joining; each backward also normalises and activates again
//
// Everything is a constexpr function of values; nothing depends on a device. model/pass_work.hpp adds up a micro-batch, model/forecast.hpp
// a step, in seconds.
#pragma once

#include <longspan/layer/block.hpp>
#include <longspan/layer/branch.hpp>

namespace longspan {

/// Amounts of work.
struct work {
    double products = 0;            ///< operations of dense products
    double product_bytes = 0;       ///< of their operands and results
    double product_depths = 0;      ///< of those whose sums are not cut, forward and back to the input: their edges count by them
    double attention_forward = 0;   ///< operations of attention, over live pairs
    double attention_backward = 0;
    double forward_queries = 0;     ///< queries that attention ran for, of all layers: its edges count by them
    double backward_queries = 0;
    double pass_bytes = 0;          ///< of passes over memory
    double kernels = 0;

    constexpr work& operator+=(const work& other) {
        products += other.products, product_bytes += other.product_bytes, product_depths += other.product_depths;
        attention_forward += other.attention_forward, attention_backward += other.attention_backward;
        forward_queries += other.forward_queries, backward_queries += other.backward_queries;
        pass_bytes += other.pass_bytes, kernels += other.kernels;
        return *this;
    }
    [[nodiscard]] friend constexpr work operator+(work a, const work& b) { return a += b; }
    [[nodiscard]] friend constexpr work operator*(double times, work w) {
        w.products *= times, w.product_bytes *= times, w.product_depths *= times;
        w.attention_forward *= times, w.attention_backward *= times;
        w.forward_queries *= times, w.backward_queries *= times;
        w.pass_bytes *= times, w.kernels *= times;
        return w;
    }
    [[nodiscard]] constexpr double operations() const { return products + attention_forward + attention_backward; }
};

/// The parts of a decoder at work on one micro-batch of so many tokens.
template <class Model>
struct model_work {
    using tables = block_tables<Model>;
    using attention = attention_tables<Model>;
    using mlp = mlp_layer<Model>;
    using precision = typename Model::precision;
    static constexpr auto shape = Model::shape;
    static constexpr bool two_streams = shape.streams() == 2, apart = residual_branch<Model>::apart, thinned = residual_branch<Model>::thinned;

    /// Of one block's tensors of one cost, made forward; `pairs` live in all documents.
    [[nodiscard]] static constexpr work forward(cost made, double tokens, double pairs) {
        const double rows = chunk(tokens);
        work w;
        switch (made) {
            case cost::pass: return w;
            case cost::product:
                w = groups * in_chunks(tokens, norm(rows) + product(rows, width, attention::projected / groups, weight) +
                                                   (turns && !shape.qk_norm ? rotation(rows) : work{}) +
                                                   product(rows, query / groups, width, weight) + joined(rows)) +
                    gathered(0);
                break;
            case cost::attention:
                w.forward_queries = tokens;
                w.kernels = groups;
                if (shape.qk_norm) w += groups * turned(tokens);
                break;
            case cost::expansion: w = in_chunks(tokens, norm(rows) + product(rows, width, first, weight)); break;
            case cost::output:
                w = in_chunks(tokens, product(rows, hidden, width, weight) + pass(rows * (first * saved + hidden * activation)) + joined(rows));
                break;
        }
        // One count of operations for all that ask: the layers'.
        const double flops = tokens * tables::flops(made, pairs / tokens);
        if (made == cost::attention) w.attention_forward = flops;
        else w.products = flops;
        return w;
    }
    /// Of one block's whole forward.
    [[nodiscard]] static constexpr work forward(double tokens, double pairs) {
        work w;
        for (const cost made : {cost::expansion, cost::product, cost::attention, cost::output}) w += forward(made, tokens, pairs);
        return w;
    }
    /// Of one block's backward, whatever a policy makes again beside it.
    [[nodiscard]] static constexpr work backward(double tokens, double pairs) {
        const double rows = chunk(tokens);
        work w = groups * in_chunks(tokens, gradients(rows, width, attention::projected / groups) + gradients(rows, query / groups, width) + norm(rows)) +
                 (attention::sums_first ? 1 : groups) * in_chunks(tokens, norm_back(rows, true)) + gathered(2 * sum);
        w.attention_backward = 2.5 * tokens * tables::flops(cost::attention, pairs / tokens);
        w.backward_queries = tokens;
        w.kernels += 3 * groups;
        if (shape.qk_norm) w += groups * (turned(tokens) + of_heads(tokens * both * (2 * gradient + saved), tokens));
        else if (turns) w += groups * rotation(tokens);
        // The MLP activates again, and back.
        w += in_chunks(tokens, gradients(rows, width, first) + gradients(rows, hidden, width) + norm(rows) + norm_back(rows, true) +
                                   pass(rows * (hidden * gradient + first * saved + first * gradient + hidden * activation)));
        if (thinned) w += 2.0 * pass(2 * tokens * width * gradient);
        if (shape.bias) w += pass(tokens * (attention::projected + 2 * shape.width + mlp::first) * gradient);
        return w;
    }
    /// Of what comes once a micro-batch: embedding, head and loss, both ways.
    [[nodiscard]] static constexpr work ends(double tokens) {
        // Of the loss, beginning anew in every chunk of tokens.
        const auto all = static_cast<index>(tokens), most = shape.chunk(all);
        const double chunks = static_cast<double>(all / most * ceil_div(most, shape.loss_chunk) + ceil_div(all % most, shape.loss_chunk));
        work w = product(tokens, width, vocabulary, 0) + gradients(tokens, width, vocabulary, 0);
        w.products = 3 * 2 * tokens * width * vocabulary;
        w.product_depths *= chunks;
        // Logits are floats, and become their own gradients; the table and its gradient are read, the latter written, once a chunk.
        w.product_bytes += tokens * vocabulary * (statistic - activation);
        w += pass(tokens * vocabulary * (statistic + activation) + chunks * width * vocabulary * (2 * weight + 2 * sum));
        w.kernels += 3 * chunks;
        w += norm(tokens) + norm_back(tokens, false);
        const double rows = vocabulary < tokens ? vocabulary : tokens;  // of the table, that occur
        w += pass(tokens * width * (weight + start)) + pass(tokens * width * gradient + 2 * rows * width * sum);
        if (shape.positions == position_kind::learned) w += pass(tokens * width * (weight + 2 * start)) + pass(tokens * width * gradient);
        if (shape.positions == position_kind::sinusoidal) w += pass(2 * tokens * width * start);
        if (shape.positions == position_kind::rotary) w += pass(tokens * head * statistic);
        if (shape.dropout > 0) w += pass(2 * tokens * width * start) + pass(2 * tokens * width * gradient);
        if (two_streams) {  // both begin as one, their sum is taken and taken apart again, their gradients begin and end as one
            w += pass(tokens * width * (activation + residual)) + pass(2 * tokens * width * residual) + 2.0 * pass(3 * tokens * width * residual) +
                 pass(2 * tokens * width * gradient) + pass(3 * tokens * width * gradient);
        }
        return w;
    }
    /// Of a block of two streams that is not run in place: the first is handed on as a copy.
    [[nodiscard]] static constexpr work handed_on(double tokens) { return two_streams ? pass(2 * tokens * width * residual) : work{}; }
    /// A pass over so many bytes.
    [[nodiscard]] static constexpr work pass(double moved) { return {.pass_bytes = moved, .kernels = 1}; }

private:
    static constexpr double width = shape.width, hidden = shape.hidden, first = mlp::first, query = attention::query_width;
    static constexpr double groups = attention::groups;  // of heads: each norms, projects and joins by itself
    static constexpr double both = (attention::query_width + attention::key_width) / groups, head = shape.head(), vocabulary = shape.vocabulary;
    static constexpr double activation = bytes_of<precision, role::activation>, saved = bytes_of<precision, role::saved>;
    static constexpr double gradient = bytes_of<precision, role::gradient>, residual = bytes_of<precision, role::residual>;
    static constexpr double weight = bytes_of<precision, role::weight>, sum = bytes_of<precision, role::parameter_gradient>;
    static constexpr double statistic = bytes_of<precision, role::statistic>;
    static constexpr double start = two_streams ? activation : residual;
    static constexpr bool turns = shape.positions == position_kind::rotary;

    /// [tokens, in] times a weight, without its operations.
    [[nodiscard]] static constexpr work product(double tokens, double in, double out, double of_weight) {
        return {.product_bytes = tokens * (in + out) * activation + in * out * of_weight, .product_depths = in, .kernels = 1};
    }
    /// Both gradients of one; the weight's is added to.
    [[nodiscard]] static constexpr work gradients(double tokens, double in, double out, double of_weight = weight + 2 * sum) {
        return {.products = 4 * tokens * in * out,
                .product_bytes = 2 * tokens * (in * activation + out * gradient) + in * out * of_weight,
                .product_depths = out,
                .kernels = 2};
    }
    /// Weights that a group's projection finds side by side are a copy; with so many bytes each more for sums that are dealt out again.
    [[nodiscard]] static constexpr work gathered(double dealt) {
        return attention::apart ? groups * pass(width * attention::projected / groups * (2 * weight + 2 * dealt)) : work{};
    }
    /// Tokens that are taken at a time, and what one chunk does as often as there are such.
    [[nodiscard]] static constexpr double chunk(double tokens) { return static_cast<double>(shape.chunk(static_cast<index>(tokens))); }
    [[nodiscard]] static constexpr work in_chunks(double tokens, const work& of_chunk) {
        const double chunks = tokens / chunk(tokens);
        work w = chunks * of_chunk;
        const double begun = static_cast<double>(ceil_div(static_cast<index>(tokens), shape.chunk(static_cast<index>(tokens))));
        w.kernels = begun * of_chunk.kernels, w.product_depths = begun * of_chunk.product_depths;
        return w;
    }
    [[nodiscard]] static constexpr work norm(double tokens) { return pass(tokens * width * (residual + activation)); }
    [[nodiscard]] static constexpr work norm_back(double tokens, bool added) {
        return pass(tokens * width * (residual + (added ? 3 : 2) * gradient));
    }
    [[nodiscard]] static constexpr work rotation(double tokens) { return pass(tokens * (2 * both * saved + head * statistic)); }
    /// QK-norm of a group's queries and keys: with their rotation one pass, without it two.
    [[nodiscard]] static constexpr work of_heads(double moved, double tokens) {
        return turns ? pass(moved + tokens * head * statistic) : 2.0 * pass(moved / 2);
    }
    [[nodiscard]] static constexpr work turned(double tokens) { return of_heads(2 * tokens * both * saved, tokens); }
    /// A branch joins its stream: in its product, which reads the stream, or in a pass of its own.
    [[nodiscard]] static constexpr work joined(double tokens) {
        if (apart) return pass(tokens * width * (2 * residual + activation));
        return {.product_bytes = tokens * width * residual};
    }
};

}  // namespace longspan
