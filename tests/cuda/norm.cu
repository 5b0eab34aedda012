// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>
#include <vector>

#include <longspan/cuda/norm.cuh>

#include "support.cuh"

namespace norm_test {

namespace ls = longspan;
using ls::index, ls::cuda::accumulate;  // index: not POSIX's
using cuda_test::check_rounded_once, cuda_test::device_array, cuda_test::doubles, cuda_test::random_values, cuda_test::relative_error, cuda_test::same_bits;

namespace {

constexpr double epsilon = 1e-5;

/// One norm over rows of Width elements, in double; centred: LayerNorm, else RMSNorm.
struct reference {
    index rows, width;
    bool centred;
    std::vector<double> y, dx, dw, db, mean, rstd;

    reference(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& b, const std::vector<double>& dy, index width_,
              bool centred_)
        : rows(static_cast<index>(x.size()) / width_), width(width_), centred(centred_), y(x.size()), dx(x.size()), dw(w.size()), db(w.size()) {
        const auto n = static_cast<double>(width);
        for (index r = 0; r < rows; ++r) {
            const double* const from = x.data() + r * width;
            double average = 0, square = 0, inner = 0, total = 0;
            if (centred)
                for (index c = 0; c < width; ++c) average += from[c] / n;
            for (index c = 0; c < width; ++c) square += (from[c] - average) * (from[c] - average) / n;
            const double k = 1 / std::sqrt(square + epsilon);
            mean.push_back(average), rstd.push_back(k);
            const auto at = [&](index c) { return static_cast<std::size_t>(r * width + c); };
            for (index c = 0; c < width; ++c) {
                const auto j = static_cast<std::size_t>(c);
                const double hat = (from[c] - average) * k;
                y[at(c)] = hat * w[j] + (centred ? b[j] : 0);
                dw[j] += dy[at(c)] * hat;
                db[j] += dy[at(c)];
                inner += dy[at(c)] * w[j] * hat / n;
                total += centred ? dy[at(c)] * w[j] / n : 0;
            }
            for (index c = 0; c < width; ++c) {
                const double hat = (from[c] - average) * k;
                dx[at(c)] = k * (dy[at(c)] * w[static_cast<std::size_t>(c)] - total - hat * inner);
            }
        }
    }
};

constexpr double sums = 1e-6;  // what sums in float cost

/// Rows `apart` elements from one to the next.
template <class T>
std::vector<T> spread(const std::vector<T>& values, index width, index apart) {
    std::vector<T> result(values.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(apart), ls::from_compute<T>(7.0f));
    for (std::size_t i = 0; i < values.size(); ++i) result[i / static_cast<std::size_t>(width) * static_cast<std::size_t>(apart) + i % static_cast<std::size_t>(width)] = values[i];
    return result;
}
template <class T>
std::vector<T> gather(const std::vector<T>& values, index width, index apart) {
    std::vector<T> result;
    for (std::size_t i = 0; i < values.size(); ++i)
        if (static_cast<index>(i) % apart < width) result.push_back(values[i]);
    return result;
}

template <class T, index Width, bool Centred>
void norms(index rows) {
    CAPTURE(rows);
    CAPTURE(Width);
    constexpr index apart = Width + 16;
    const auto count = static_cast<std::size_t>(rows * Width), width = static_cast<std::size_t>(Width);
    const auto x = random_values<T>(count, 1, 2.0), dy = random_values<T>(count, 2), before = random_values<T>(count, 3);
    const auto w = random_values<T>(width, 4), b = random_values<T>(width, 5);
    const auto dw0 = random_values<float>(width, 6), db0 = random_values<float>(width, 7);
    const reference exact(doubles(x), doubles(w), doubles(b), doubles(dy), Width, Centred);

    cuda_test::own_stream stream;
    device_array<T> x_d(spread(x, Width, apart)), w_d(w), b_d(b), dy_d(dy), y_d(count);
    device_array<float> rstd(static_cast<std::size_t>(rows)), mean(static_cast<std::size_t>(rows));
    device_array<std::byte> workspace(static_cast<std::size_t>(ls::cuda::norm_workspace(Width)));
    const auto x_view = x_d.constants(rows, Width, apart);
    if constexpr (Centred) ls::cuda::layer_norm<Width>(stream, x_view, w_d.data(), b_d.data(), epsilon, y_d.view(rows, Width), mean.data(), rstd.data());
    else ls::cuda::rms_norm<Width>(stream, x_view, w_d.data(), epsilon, y_d.view(rows, Width), rstd.data());
    check_rounded_once(y_d.get(), exact.y, sums);
    CHECK(relative_error(doubles(rstd.get()), exact.rstd) <= 1e-6);
    if constexpr (Centred) CHECK(relative_error(doubles(mean.get()), exact.mean) <= 2e-6);

    const auto backward = [&]<accumulate Add>() {
        device_array<T> dx_d(before);
        device_array<float> dw_d(dw0), db_d(db0);
        if constexpr (Centred) {
            ls::cuda::layer_norm_backward<Width, Add>(stream, dy_d.constants(rows, Width), x_view, w_d.data(), mean.data(), rstd.data(),
                                                      dx_d.view(rows, Width), dw_d.data(), db_d.data(), workspace.data());
        } else {
            ls::cuda::rms_norm_backward<Width, Add>(stream, dy_d.constants(rows, Width), x_view, w_d.data(), rstd.data(), dx_d.view(rows, Width),
                                                    dw_d.data(), workspace.data());
        }
        std::vector<double> dx = exact.dx, dw = exact.dw, db = exact.db;
        const std::vector<double> onto = doubles(before);
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += Add == accumulate::yes ? onto[i] : 0;
        for (std::size_t i = 0; i < dw.size(); ++i) dw[i] += static_cast<double>(dw0[i]), db[i] += static_cast<double>(db0[i]);
        const auto dx_got = dx_d.get();
        check_rounded_once(dx_got, dx, sums);
        CHECK(relative_error(doubles(dw_d.get()), dw) <= 2e-6);
        if constexpr (Centred) CHECK(relative_error(doubles(db_d.get()), db) <= 2e-6);
        else CHECK(same_bits(db_d.get(), db0));
        return dx_got;
    };
    const auto once = backward.template operator()<accumulate::no>();
    CHECK(same_bits(once, backward.template operator()<accumulate::no>()));
    (void)backward.template operator()<accumulate::yes>();
}

std::string sentence(auto&& f) {
    try {
        f();
    } catch (const ls::bad_argument& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE_TEMPLATE("cuda norm: RMSNorm and LayerNorm against double", T, float, ls::bf16, ls::fp16) {
    for (const index rows : {1, 7, 8, 9, 31, 259}) {
        norms<T, 40, false>(rows);
        norms<T, 768, true>(rows);
    }
    norms<T, 8, true>(33);
    norms<T, 2048, false>(5);
}

TEST_CASE("cuda norm: rows that many threads share, and more rows than parts") {
    norms<ls::bf16, 4096, false>(3);
    norms<ls::bf16, 4096, true>(2);
    norms<ls::bf16, 24, false>(5000);
}

TEST_CASE("cuda norm: a sum and its norm in one pass are the bits of the two apart") {
    constexpr index width = 96, rows = 37;
    const std::size_t count = rows * width;
    cuda_test::own_stream stream;
    const auto x = random_values<ls::bf16>(count, 1), branch = random_values<ls::bf16>(count, 2), w = random_values<ls::bf16>(width, 3), b = random_values<ls::bf16>(width, 4);
    device_array<ls::bf16> x_d(x), branch_d(branch), w_d(w), b_d(b), sum(count), y(count), y_apart(count);
    device_array<float> rstd(rows), rstd_apart(rows), mean(rows), mean_apart(rows);
    ls::cuda::add_rms_norm<width>(stream, x_d.constants(rows, width), branch_d.constants(rows, width), sum.view(rows, width), w_d.data(), epsilon,
                                  y.view(rows, width), rstd.data());
    std::vector<ls::bf16> rounded;
    for (std::size_t i = 0; i < count; ++i) rounded.push_back(ls::bf16(ls::to_compute(x[i]) + ls::to_compute(branch[i])));
    CHECK(same_bits(sum.get(), rounded));
    ls::cuda::rms_norm<width>(stream, sum.constants(rows, width), w_d.data(), epsilon, y_apart.view(rows, width), rstd_apart.data());
    CHECK(same_bits(y.get(), y_apart.get()));
    CHECK(same_bits(rstd.get(), rstd_apart.get()));
    ls::cuda::add_layer_norm<width>(stream, x_d.constants(rows, width), branch_d.constants(rows, width), sum.view(rows, width), w_d.data(), b_d.data(),
                                    epsilon, y.view(rows, width), mean.data(), rstd.data());
    ls::cuda::layer_norm<width>(stream, sum.constants(rows, width), w_d.data(), b_d.data(), epsilon, y_apart.view(rows, width), mean_apart.data(),
                                rstd_apart.data());
    CHECK(same_bits(y.get(), y_apart.get()));
    CHECK(same_bits(mean.get(), mean_apart.get()));
}

TEST_CASE("cuda norm: a stream in fixed point is read as the nearest floats, columns of a wider tensor") {
    constexpr index rows = 300, width = 768;
    const cuda_test::own_stream stream;
    std::vector<ls::fixed32> x;
    std::vector<float> floats;
    for (const float v : random_values<float>(rows * 2 * width, 1, 1e9)) {
        x.push_back({static_cast<std::int32_t>(v)});  // beyond 24 bits: rounded
        floats.push_back(static_cast<float>(static_cast<double>(x.back().units) * 0x1p-18));
    }
    const device_array<ls::fixed32> d_x(x);
    const device_array<float> d_floats(floats);
    const device_array<ls::bf16> w(random_values<ls::bf16>(width, 2)), dy(random_values<ls::bf16>(rows * width, 3));
    const auto norms_of = [&](const auto& from) {
        const auto in = from.constants(rows, width, 2 * width);
        device_array<ls::bf16> y(rows * width), dx(random_values<ls::bf16>(rows * width, 4));
        device_array<float> rstd(rows), mean(rows), dw(width), db(width);
        device_array<std::byte> workspace(static_cast<std::size_t>(ls::cuda::norm_workspace(width)));
        dw.zero(), db.zero();
        ls::cuda::rms_norm<width>(stream, in, w.data(), epsilon, y.view(rows, width), rstd.data());
        ls::cuda::rms_norm_backward<width, accumulate::yes>(stream, dy.constants(rows, width), in, w.data(), rstd.data(), dx.view(rows, width), dw.data(),
                                                            workspace.data());
        auto all = doubles(y.get());
        ls::cuda::layer_norm<width>(stream, in, w.data(), w.data(), epsilon, y.view(rows, width), mean.data(), rstd.data());
        ls::cuda::layer_norm_backward<width, accumulate::yes>(stream, dy.constants(rows, width), in, w.data(), mean.data(), rstd.data(),
                                                              dx.view(rows, width), dw.data(), db.data(), workspace.data());
        for (const auto& more : {doubles(y.get()), doubles(dx.get()), doubles(dw.get()), doubles(db.get())}) all.insert(all.end(), more.begin(), more.end());
        return all;
    };
    CHECK(norms_of(d_x) == norms_of(d_floats));
}

TEST_CASE("cuda norm: heads of a projection's columns, in place") {
    constexpr index head = 16, heads = 3, rows = 29, apart = 64;
    constexpr std::size_t count = rows * heads * head;
    const auto x = random_values<ls::bf16>(count, 1), dy = random_values<ls::bf16>(count, 2), w = random_values<ls::bf16>(head, 3);
    const reference exact(doubles(x), doubles(w), doubles(w), doubles(dy), head, false);
    cuda_test::own_stream stream;
    device_array<ls::bf16> x_d(spread(x, heads * head, apart)), w_d(w), y(count), dx(dy);
    device_array<float> rstd(rows * heads), dw(std::vector<float>(head, 0.5f));
    device_array<std::byte> workspace(static_cast<std::size_t>(ls::cuda::norm_workspace(head)));
    ls::cuda::head_norm<head>(stream, x_d.constants(rows, heads * head, apart), w_d.data(), epsilon, y.view(rows, heads * head), rstd.data());
    check_rounded_once(y.get(), exact.y, sums);
    CHECK(relative_error(doubles(rstd.get()), exact.rstd) <= 1e-6);
    ls::cuda::head_norm_backward<head>(stream, dx.constants(rows, heads * head), x_d.constants(rows, heads * head, apart), w_d.data(), rstd.data(),
                                       dx.view(rows, heads * head), dw.data(), workspace.data());
    std::vector<double> expected = exact.dw;
    for (double& v : expected) v += 0.5;
    check_rounded_once(dx.get(), exact.dx, sums);
    CHECK(relative_error(doubles(dw.get()), expected) <= 2e-6);
    CHECK(same_bits(gather(x_d.get(), heads * head, apart), x));
}

TEST_CASE("cuda norm: no rows, and what does not fit") {
    cuda_test::own_stream stream;
    device_array<ls::bf16> x(64), w(16), y(64);
    device_array<float> rstd(4);
    ls::cuda::rms_norm<16>(stream, x.constants(0, 16), w.data(), epsilon, y.view(0, 16), rstd.data());
    CHECK(sentence([&] { ls::cuda::rms_norm<16>(stream, x.constants(4, 8), w.data(), epsilon, y.view(4, 16), rstd.data()); })
              .find("rms_norm: expected x of [4, 16], got [4, 8]") == 0);
    CHECK(sentence([&] { ls::cuda::rms_norm<16>(stream, x.constants(4, 16), w.data() + 1, epsilon, y.view(4, 16), rstd.data()); })
              .find("rms_norm: expected the weight at a multiple of 16 bytes") == 0);
    CHECK(sentence([&] { ls::cuda::rms_norm<16>(stream, x.constants(4, 16), w.data(), epsilon, y.view(4, 16), static_cast<float*>(nullptr)); })
              .find("rstd at a multiple of 4 bytes, got a null pointer") != std::string::npos);
}

TEST_CASE("cuda norm: rows that begin beyond 2^31 elements") {
    constexpr index width = 4096, rows = (index{1} << 31) / width + 3;
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    if (free < (std::size_t{10} << 30)) {
        MESSAGE("skipped: this takes 10 GiB of the device");
        return;
    }
    cuda_test::own_stream stream;
    device_array<ls::bf16> x(rows * width), y(rows * width), w(random_values<ls::bf16>(width, 1));
    device_array<float> rstd(rows);
    x.zero();
    const auto last = random_values<ls::bf16>(width, 2);
    cudaMemcpy(x.data() + (rows - 1) * width, last.data(), width * sizeof(ls::bf16), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();
    ls::cuda::rms_norm<width>(stream, x.constants(rows, width), w.data(), epsilon, y.view(rows, width), rstd.data());
    stream.wait();
    std::vector<ls::bf16> got(width);
    cudaMemcpy(got.data(), y.data() + (rows - 1) * width, width * sizeof(ls::bf16), cudaMemcpyDeviceToHost);
    const auto w_d = doubles(w.get());
    const reference exact(doubles(last), w_d, w_d, doubles(last), width, false);
    check_rounded_once(got, exact.y, sums);
}

}  // namespace norm_test
