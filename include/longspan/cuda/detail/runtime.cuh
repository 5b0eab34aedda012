// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/runtime.cuh.
#pragma once

#include <longspan/cuda/runtime.cuh>

namespace longspan::cuda {

namespace detail {

template <int = 0>
__global__ void nothing() {}

/// Pinned memory for what leaves the device, or a sentence on how much there should be.
inline pinned_block pin_for_plan(bytes size) {
    try {
        return {"the plan's pinned memory", size};
    } catch (const device_error& e) {
        (void)cudaGetLastError();
        throw out_of_memory("the plan needs " + std::to_string(size) + " bytes of pinned host memory, and the system refused them: " + e.name);
    }
}

}  // namespace detail

inline void expect_device(bytes needed) {
    found_gpu gpu;
    int count = 0, device = 0;
    if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) {
        (void)cudaGetLastError();
        gpu.why_not = cudaGetErrorName(code);
    } else if (count > 0) {
        constexpr const char* op = "looking at the GPU";
        check(cudaGetDevice(&device), op);
        cudaDeviceProp properties{};
        check(cudaGetDeviceProperties(&properties, device), op);
        cudaFuncAttributes attributes{};
        gpu = {.name = properties.name, .major = properties.major, .minor = properties.minor};
        gpu.has_code = cudaFuncGetAttributes(&attributes, detail::nothing<>) == cudaSuccess;
        (void)cudaGetLastError();
        std::size_t free = 0, total = 0;
        check(cudaMemGetInfo(&free, &total), op);
        gpu.free = static_cast<bytes>(free);
        gpu.total = static_cast<bytes>(total);
    }
    expect_gpu(gpu, needed);
}

inline device::runtime::runtime(bytes size, bytes batch, bytes pinned)
    : checked_((expect_device(size), nullptr)),
      block_("the plan's block", size),
      pinned_(detail::pin_for_plan(pinned)),
      copies_(pinned > 0 ? std::make_unique<const cuda::copies>() : nullptr),
      batch_size_(round_up(batch, device::alignment)),
      batches_("batches on their way", batch_size_ * batches),
      requests_("requests on their way", requests * slot_size),
      answers_("answers on their way", slots * slot_size) {
    (void)checked_;
    for (index slot = 0; slot < slots; ++slot) give_back(slot);
}

inline device::runtime::~runtime() { cudaStreamSynchronize(stream()); }

template <class Work>
void device::runtime::replay(index number, Work&& work) {
    const auto i = static_cast<std::size_t>(number);
    if (recordings_.size() <= i) recordings_.resize(i + 1);
    recording& made = recordings_[i];
    if (made.graph.recorded()) return made.graph.launch(stream());
    if (!graphs_in_use_ || !made.warm) {
        work();
        made.warm = true;
        return;
    }
    made.graph = owned_graph::capture(stream(), work);
    ++times_recorded_;
    made.graph.launch(stream());
}

inline void device::runtime::next_batch() {
    section_ = (section_ + 1) % static_cast<std::size_t>(batches);
    sections_[section_].gone.wait();
    section_used_ = 0;
}

inline void device::runtime::stage_bytes(const void* from, void* to, bytes size) {
    expects(section_used_ + size <= batch_size_, [&] {
        return "staging a batch: expected arrays of at most " + std::to_string(batch_size_) + " bytes, got " + std::to_string(section_used_ + size);
    });
    std::byte* const pinned = batches_.bytes_of().data() + static_cast<bytes>(section_) * batch_size_ + section_used_;
    std::memcpy(pinned, from, static_cast<std::size_t>(size));
    check(cudaMemcpyAsync(to, pinned, static_cast<std::size_t>(size), cudaMemcpyHostToDevice, stream()), "staging a batch", size);
    section_used_ += round_up(size, device::alignment);
}

inline void device::runtime::send_bytes(const void* from, void* to, std::size_t size) {
    const index slot = request_++ % requests;
    const owned_event& gone = request_gone_[static_cast<std::size_t>(slot)];
    gone.wait();
    std::byte* const pinned = requests_.bytes_of().data() + slot * slot_size;
    std::memcpy(pinned, from, size);
    check(cudaMemcpyAsync(to, pinned, size, cudaMemcpyHostToDevice, stream()), "sending a request");
    gone.record(stream());
}

inline index device::runtime::fetch_bytes(const void* from, std::size_t size) {
    expects(free_count_ > 0, [] { return std::string("fetch: more answers are under way than there is room for; ask for some first"); });
    const index slot = free_slots_[static_cast<std::size_t>(--free_count_)];
    check(cudaMemcpyAsync(answers_.bytes_of().data() + slot * slot_size, from, size, cudaMemcpyDeviceToHost, stream()), "fetching an answer");
    answer_here_[static_cast<std::size_t>(slot)].record(stream());
    return slot;
}

inline const std::byte* device::runtime::arrived(index slot) {
    answer_here_[static_cast<std::size_t>(slot)].wait();
    return answers_.bytes_of().data() + slot * slot_size;
}

inline std::string device::runtime::choices() const {
    std::string text;
    for (const std::string& line : blas_.choices()) text += line + '\n';
    return text;
}

inline std::string device::runtime::reuse(std::string_view choices) {
    std::vector<std::string> lines;
    while (!choices.empty()) {
        const std::size_t end = choices.find('\n');
        lines.emplace_back(choices.substr(0, end));
        choices.remove_prefix(end == std::string_view::npos ? choices.size() : end + 1);
    }
    if (blas_.reuse(lines)) return {};
    return "products ran on " + (lines.empty() ? std::string("an unnamed machine") : lines.front()) + ", and now run on " + blas_.machine() +
           ": the run goes on, but not to the bit";
}

template <class T>
const T& device::fetched<T>::get() const {
    if (runtime_ != nullptr) {
        std::memcpy(&value_, runtime_->arrived(slot_), sizeof(T));
        std::exchange(runtime_, nullptr)->give_back(slot_);
    }
    return value_;
}

template <class T>
device::fetched<T>::~fetched() {
    if (runtime_ != nullptr) runtime_->give_back(slot_);
}

}  // namespace longspan::cuda
