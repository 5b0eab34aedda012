// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include <longspan/cuda/memory_block.cuh>

#include "support.cuh"

namespace ls = longspan;
using namespace ls::cuda;

namespace {

__global__ void add_one(int* at) { ++*at; }

}  // namespace

TEST_CASE("memory_block: blocks move, and more than there is is refused with the bytes") {
    device_block a("a block", 100);
    std::byte* const at = a.bytes_of().data();
    device_block b = std::move(a);
    CHECK(b.bytes_of().data() == at);
    CHECK(a.bytes_of().empty());
    CHECK(device_block("nothing", 0).bytes_of().empty());
    try {
        device_block("too much", ls::bytes{1} << 46);
        FAIL("64 TiB were given");
    } catch (const device_error& e) {
        CHECK(e.asked == ls::bytes{1} << 46);
        CHECK(e.name == "cudaErrorMemoryAllocation");
    }
    (void)cudaGetLastError();
    pinned_block p("pinned", 64);
    p.bytes_of()[63] = std::byte{7};
    CHECK(pinned_block(std::move(p)).bytes_of()[63] == std::byte{7});
}

TEST_CASE("memory_block: a captured graph runs nothing until it is launched, and then as often as it is") {
    owned_stream stream;
    cuda_test::device_array<int> counter(std::vector<int>{5});
    owned_graph graph;
    CHECK(!graph.recorded());
    graph = owned_graph::capture(stream.ref(), [&] { add_one<<<1, 1, 0, stream.ref()>>>(counter.data()); });
    CHECK(graph.recorded());
    CHECK(counter.get()[0] == 5);
    for (int i = 0; i < 3; ++i) graph.launch(stream.ref());
    CHECK(counter.get()[0] == 8);
}

TEST_CASE("memory_block: an exception while recording passes through, and the stream goes on") {
    owned_stream stream;
    cuda_test::device_array<int> counter(std::vector<int>{0});
    CHECK_THROWS_AS((void)owned_graph::capture(stream.ref(), [] { throw ls::bad_argument("no"); }), ls::bad_argument);
    add_one<<<1, 1, 0, stream.ref()>>>(counter.data());
    check_launch("test");
    CHECK(counter.get()[0] == 1);
}

TEST_CASE("memory_block: an event is waited for; one never recorded is not") {
    owned_stream stream;
    owned_event event;
    event.wait();
    cuda_test::device_array<int> counter(std::vector<int>{0});
    add_one<<<1, 1, 0, stream.ref()>>>(counter.data());
    event.record(stream.ref());
    event.wait();
    CHECK(counter.get()[0] == 1);
}
