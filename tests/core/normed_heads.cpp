// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include <longspan/core/normed_heads.hpp>

namespace longspan {
namespace {

// Members say what the types are; a weight is constant, whatever it was read from.
using forward = decltype(normed_heads{matrix_view<const float>{}, static_cast<const double*>(nullptr), matrix_view<float>{}, matrix_view<float>{}});
static_assert(std::is_same_v<forward, normed_heads<const float, double, float, float>>);
using backward = decltype(normed_heads_gradient{matrix_view<float>{}, matrix_view<const float>{}, static_cast<const float*>(nullptr),
                                                matrix_view<const float>{}, matrix_view<float>{}, static_cast<double*>(nullptr)});
static_assert(std::is_same_v<backward, normed_heads_gradient<float, const float, float, const float, float, double>>);

}  // namespace
}  // namespace longspan
