// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime, linked statically; the driver is looked up by it at run time, so a machine without one loads this.
#include "device.h"

#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>

#include "../check.h"
#ifdef DLCORE_EMULATOR
#include "emulator/runtime.h"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif

DLCORE_BEGIN

// A fork inherits a driver that it cannot use.
static std::atomic<pid_t> owner{0};  // that first used a device

static bool is_fork() { return owner != 0 && owner != getpid(); }

static std::string fork_text() {
  return message("expected process ", owner, ", which began to use the GPU, got its fork ", getpid(),
                 "; start processes by multiprocessing's spawn");
}

static void check(cudaError_t error, const char* what, const std::string& wanted = "more") {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // forgets it
  if (error != cudaErrorMemoryAllocation) {
    throw std::runtime_error(message("cuda: ", what, ": ", cudaGetErrorString(error)));
  }
  const Room room = device_room();
  throw NoMemory(message(what, ": expected ", wanted, " memory, got ", bytes_text(room.free), " of ",
                         bytes_text(room.total), " free"));
}

static int current() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

struct Device {
  std::mutex mutex;
  std::once_flag once;
  cudaStream_t work = nullptr, copies = nullptr;
};

static Device& here() {
  constexpr int MOST = 64;
  static Device devices[MOST];
  const int index = current();
  if (index >= MOST) throw std::runtime_error(message("cuda: expected a device below ", MOST, ", got ", index));
  Device& device = devices[index];
  std::call_once(device.once, [&] {
    for (cudaStream_t* stream : {&device.work, &device.copies}) {
      if (*stream == nullptr) check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "cudaStreamCreate");
    }
  });
  return device;
}

std::string device_absence() {
  if (is_fork()) return fork_text();
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  int driver = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return "no NVIDIA driver found";
  }
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (count == 0) return "no GPU found";
  owner = getpid();
  return "";
}

std::vector<std::string> device_names() {
  int count = 0;
  if (is_fork() || cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    names.push_back(properties.name);
  }
  return names;
}

OnDevice::OnDevice(int device) : device_(device) {
  if (is_fork()) throw std::runtime_error("cuda: " + fork_text());
  owner = getpid();
  before_ = current();
  if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice");
}

OnDevice::~OnDevice() {
  if (before_ != device_) cudaSetDevice(before_);
}

std::mutex& device_mutex() { return here().mutex; }

int device_capability(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

char* device_allocate(int64_t bytes) {
  void* memory = nullptr;
  const cudaStream_t on = here().work;
  check(cudaMalloc(&memory, size_t(bytes > 0 ? bytes : 1)), "cudaMalloc", bytes_text(bytes) + " of");
  const cudaError_t error = cudaMemsetAsync(memory, 0, size_t(bytes), on);
  if (error != cudaSuccess) cudaFree(memory);
  check(error, "cudaMemsetAsync");
  return static_cast<char*>(memory);
}

void device_copy(char* to, const char* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDefault, here().work), "cudaMemcpyAsync");
}

Room device_room() {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return {int64_t(free), int64_t(total)};
}

int device_of(const char* memory) {
  cudaPointerAttributes about{};
  if (cudaPointerGetAttributes(&about, memory) != cudaSuccess) {
    cudaGetLastError();
    return -1;
  }
  if (about.type == cudaMemoryTypeManaged) return current();
  return about.type == cudaMemoryTypeDevice ? about.device : -1;
}

// The driver's function, which the runtime looks up: nothing is linked to the driver.
static decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
        "cuTensorMapEncodeTiled");
  if (found == nullptr) throw std::runtime_error("cuda: expected a driver of CUDA 12.0 or later for tensor maps");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
}

TensorMap device_tensor_map(int64_t address, const std::array<int64_t, 4>& sizes, const std::array<int64_t, 3>& strides,
                            const std::array<int64_t, 4>& box) {
  static const auto encode = tensor_map_encoder();
  CUtensorMap map;
  const cuuint64_t size[] = {cuuint64_t(sizes[0]), cuuint64_t(sizes[1]), cuuint64_t(sizes[2]), cuuint64_t(sizes[3])};
  const cuuint64_t stride[] = {cuuint64_t(strides[0]), cuuint64_t(strides[1]), cuuint64_t(strides[2])};
  const cuuint32_t boxes[] = {cuuint32_t(box[0]), cuuint32_t(box[1]), cuuint32_t(box[2]), cuuint32_t(box[3])};
  const cuuint32_t every[] = {1, 1, 1, 1};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, reinterpret_cast<void*>(address), size,
                                 stride, boxes, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw std::runtime_error(message("cuda: cuTensorMapEncodeTiled: error ", int(result)));
  TensorMap copy;
  static_assert(sizeof copy == sizeof map, "");
  std::memcpy(&copy, &map, sizeof copy);
  return copy;
}

int device_multiprocessors() {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, current()), "cudaDeviceGetAttribute");
  return count;
}

static thread_local bool loads = false;  // device_load is at work

void device_launch(const void* kernel, int64_t blocks, int32_t members, int threads, void** arguments,
                   size_t shared_bytes) {
  const dim3 grid{unsigned(blocks), unsigned(members), 1}, block{unsigned(threads), 1, 1};
  if (shared_bytes > 48 << 10) {  // more must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
          "cudaFuncSetAttribute");
  }
  if (loads) {
    cudaFuncAttributes unused;
    return check(cudaFuncGetAttributes(&unused, kernel), "cudaFuncGetAttributes");
  }
  check(cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, here().work), "cudaLaunchKernel");
}

void device_load(void (*body)(void*), void* argument) {
  loads = true;
  try {
    body(argument);
  } catch (...) {
    loads = false;
    throw;
  }
  loads = false;
}

struct Graph {
  cudaGraphExec_t executable;
};

Graph* device_capture(void (*body)(void*), void* argument) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  const cudaStream_t on = here().work;
  check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    body(argument);
  } catch (...) {
    cudaStreamEndCapture(on, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(on, &graph), "cudaStreamEndCapture");
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  return new Graph{executable};
}

void device_replay(Graph* graph) { check(cudaGraphLaunch(graph->executable, here().work), "cudaGraphLaunch"); }

char* device_pin(int64_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, size_t(bytes > 0 ? bytes : 1), cudaHostAllocDefault), "cudaHostAlloc",
        bytes_text(bytes) + " of");
  return static_cast<char*>(memory);
}

struct Sent {
  cudaEvent_t event;
};

static cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return event;
}

Sent* device_sender() { return new Sent{make_event()}; }

void device_send(char* to, const char* pinned, int64_t bytes, Sent* sent) {
  const cudaStream_t on = here().copies;
  check(cudaMemcpyAsync(to, pinned, size_t(bytes), cudaMemcpyDefault, on), "cudaMemcpyAsync");
  check(cudaEventRecord(sent->event, on), "cudaEventRecord");
}

void device_expect(Sent* sent) { check(cudaStreamWaitEvent(here().work, sent->event, 0), "cudaStreamWaitEvent"); }
void device_settle(Sent* sent) { check(cudaEventSynchronize(sent->event), "cudaEventSynchronize"); }

uintptr_t device_stream() { return reinterpret_cast<uintptr_t>(here().work); }

void device_follow(uintptr_t the_stream) {
  const cudaEvent_t event = make_event();
  cudaError_t error = cudaEventRecord(event, reinterpret_cast<cudaStream_t>(the_stream));
  if (error == cudaSuccess) error = cudaStreamWaitEvent(here().work, event, 0);
  cudaEventDestroy(event);
  check(error, "the stream of an array");
}

void device_order(uint64_t schedule) {
#ifdef DLCORE_EMULATOR
  emulator::set_order(schedule);
#else
  (void)schedule;
#endif
}

void device_wait() { check(cudaStreamSynchronize(here().work), "cudaStreamSynchronize"); }

template <class Work>
static void quietly(int device, Work work) {
  if (is_fork()) return;
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) return;
  work();
  cudaSetDevice(before);
  cudaGetLastError();
}

void device_release(int device, char* memory) {
  quietly(device, [&] { cudaFree(memory); });
}

void device_unpin(int device, char* memory) {
  quietly(device, [&] { cudaFreeHost(memory); });
}

void device_drop(int device, Graph* graph) {
  quietly(device, [&] { cudaGraphExecDestroy(graph->executable); });
  delete graph;
}

void device_drop(int device, Sent* sent) {
  quietly(device, [&] { cudaEventSynchronize(sent->event), cudaEventDestroy(sent->event); });
  delete sent;
}

DLCORE_END
