// SPDX-License-Identifier: Apache-2.0
//
// What making tensors again costs: whole steps of model B under five checkpointing policies and of A under two, one document, in one process
// and in turn. The losses printed can be compared: policies of one model give the same.
#include "models.hpp"
#include "step.cuh"

namespace {

namespace ls = longspan;

template <class Model, auto Policy>
struct under : Model {
    static constexpr auto checkpoint = Policy;
};

template <class Model, auto Policy>
void run(const char* name) {
    step_bench::run<under<Model, Policy>>(name, Model::batch.budget, 8);
}

}  // namespace

int main() {
    using b = models::b<32768, 32768>;
    run<b, ls::store_all>("B 1x32768 store_all");
    run<b, ls::selective_products>("B 1x32768 selective_products");
    // Of what store_all saves a little less than half.
    run<b, ls::selective_products.for_blocks<14>().then(ls::selective)>("B 1x32768 selective_products, then selective");
    run<b, ls::selective>("B 1x32768 selective");
    run<b, ls::recompute_every<1>>("B 1x32768 recompute_every<1>");
    using a = models::a<131072, 131072>;
    run<a, ls::selective>("A 1x131072 selective");
    run<a, ls::recompute_every<1>>("A 1x131072 recompute_every<1>");
}
