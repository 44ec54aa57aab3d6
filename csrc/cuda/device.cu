// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime, linked statically; the driver is looked up by it at run time, so a machine without one loads this.
#include "device.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <stdexcept>

#include "../check.h"

DLCORE_BEGIN

// A fork inherits a context that it cannot use.
static void check_process() {
  static const pid_t owner = getpid();
  if (owner == getpid()) return;
  throw std::runtime_error(message("cuda: expected process ", owner, ", which began to use the GPU, got its fork ",
                                   getpid(), "; start processes by multiprocessing's spawn"));
}

static void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(message("cuda: ", what, ": ", cudaGetErrorString(error)));
}

static cudaStream_t stream() {
  static cudaStream_t made = [] {
    cudaStream_t created = nullptr;
    check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), "a stream");
    return created;
  }();
  check_process();
  return made;
}

std::string device_absence() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  int driver = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return "no NVIDIA driver found";
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no GPU found";
}

std::vector<std::string> device_names() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) == cudaSuccess) names.push_back(properties.name);
  }
  return names;
}

int device_capability() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

char* device_allocate(int64_t bytes) {
  void* memory = nullptr;
  cudaStream_t on = stream();
  const cudaError_t error = cudaMalloc(&memory, size_t(bytes > 0 ? bytes : 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgets it
    return nullptr;
  }
  check(error, "cudaMalloc");
  check(cudaMemsetAsync(memory, 0, size_t(bytes), on), "cudaMemsetAsync");
  return static_cast<char*>(memory);
}

// Also at the end of the process, when the runtime may be gone, and in a fork, whose memory it is not.
void device_release(char* memory) { cudaFree(memory); }

void device_copy(char* to, const char* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDefault, stream()), "cudaMemcpyAsync");
}

std::string device_room() {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return "room unknown";
  return message(double(free / 10000000) / 100, " of ", double(total / 10000000) / 100, " GB free");
}

void device_launch(const void* kernel, int64_t blocks, int32_t members, int threads, void** arguments,
                   size_t shared_bytes) {
  const dim3 grid{unsigned(blocks), unsigned(members), 1}, block{unsigned(threads), 1, 1};
  if (shared_bytes > 48 << 10) {  // more must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
          "cudaFuncSetAttribute");
  }
  check(cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream()), "cudaLaunchKernel");
}

struct Graph {
  cudaGraphExec_t executable;
};

Graph* device_capture(void (*body)(void*), void* argument) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    body(argument);
  } catch (...) {
    cudaStreamEndCapture(stream(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream(), &graph), "cudaStreamEndCapture");
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  return new Graph{executable};
}

void device_replay(Graph* graph) { check(cudaGraphLaunch(graph->executable, stream()), "cudaGraphLaunch"); }

void device_drop(Graph* graph) {
  cudaGraphExecDestroy(graph->executable);
  delete graph;
}

void device_order(uint64_t) {}
void device_wait() { check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

DLCORE_END
