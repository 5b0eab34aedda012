// SPDX-License-Identifier: Apache-2.0
//
// Which kernels a run of some tests has launched: their names, a line each, go into the file that LONGSPAN_LAUNCHES names, when the
// program ends (checks/sanitize_kernels reads it). The linker's --wrap puts these functions before the runtime's, through which every
// launch goes, one that is being recorded too. Without the variable nothing is kept.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <cuda_runtime_api.h>

namespace {

class launched {
public:
    launched() : path_(std::getenv("LONGSPAN_LAUNCHES")) {}
    launched(const launched&) = delete;
    ~launched() {
        if (path_ == nullptr) return;
        std::FILE* const file = std::fopen(path_, "w");
        if (file == nullptr) return;
        for (const std::string& name : names_) {
            int status = 0;
            const std::unique_ptr<char, decltype(&std::free)> plain(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
            std::fprintf(file, "%s\n", plain ? plain.get() : name.c_str());
        }
        std::fclose(file);
    }
    void add(const void* kernel) {
        if (path_ == nullptr) return;
        const char* name = nullptr;
        if (cudaFuncGetName(&name, kernel) != cudaSuccess) return;
        const std::scoped_lock lock(mutex_);
        names_.insert(name);
    }

private:
    const char* path_;
    std::mutex mutex_;
    std::set<std::string> names_;
};

launched& all() {
    static launched here;
    return here;
}

}  // namespace

extern "C" {

cudaError_t __real___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream);
cudaError_t __wrap___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    all().add(kernel);
    return __real___cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments);
cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
    all().add(kernel);
    return __real_cudaLaunchKernelExC(config, kernel, arguments);
}

}  // extern "C"
