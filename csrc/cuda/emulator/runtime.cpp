// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../cuda.h"
#include "simt.h"

namespace {

constexpr int DEVICES = 2, POISON = 0xff;
constexpr int MULTIPROCESSORS = 3;  // few, so that blocks that stay have several tiles

// Done when the stream has come so far.
struct Mark {
  EmulatedStream* stream;
  bool reached = false;
};

struct Work {
  std::function<void()> run;
  std::shared_ptr<Mark> after;  // of another stream
};

struct Block {
  size_t bytes;
  int device;  // -1: pinned memory of the host
};

}  // namespace

struct EmulatedStream {
  int device;
  bool late;  // runs only when somebody waits
  std::deque<Work> queue;
  EmulatedGraph* captured_by = nullptr;
};

struct EmulatedEvent {
  std::shared_ptr<Mark> mark;
};

struct EmulatedGraph {
  std::thread::id maker;
  std::vector<Work> work;
};

namespace {

std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> Lock;

std::map<const char*, Block> blocks;
std::set<EmulatedStream*> streams;
std::set<std::pair<int, const void*>> loaded;  // kernels, of a device
std::map<std::string, int64_t> counts;
std::map<std::string, int64_t> countdowns;  // to a failure
int64_t limit = int64_t(1) << 40;           // bytes of a device
std::string failure;                        // of a kernel, until somebody waits
uint64_t order = 0, random_state = 0;
thread_local int device = 0;

uint64_t draw(uint64_t below) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
  return (random_state >> 33) % below;
}

int64_t used(int of) {
  int64_t sum = 0;
  for (const auto& block : blocks) sum += block.second.device == of ? int64_t(block.second.bytes) : 0;
  return sum;
}

// Counts what is asked for; true for the one that a test wants to fail.
bool fails(const std::string& what) {
  ++counts[what];
  const auto found = countdowns.find(what);
  return found != countdowns.end() && found->second-- == 0;
}

// The block that these bytes begin in; nullptr: pageable memory of the host.
const Block* block_of(const void* p) {
  auto found = blocks.upper_bound(static_cast<const char*>(p));
  if (found == blocks.begin()) return nullptr;
  --found;
  return static_cast<const char*>(p) < found->first + found->second.bytes ? &found->second : nullptr;
}

// May a stream of this device touch these bytes?
bool reaches(int from, const void* p, size_t bytes) {
  const Block* block = block_of(p);
  if (block == nullptr) return block_of(static_cast<const char*>(p) + bytes - 1) == nullptr;
  return (block->device < 0 || block->device == from) && block_of(static_cast<const char*>(p) + bytes - 1) == block;
}

void run_one(EmulatedStream& stream) {
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  while (work.after && !work.after->reached) run_one(*work.after->stream);
  if (!work.run) return;
  try {
    work.run();
  } catch (const std::runtime_error& error) {
    if (failure.empty()) failure = error.what();
  }
}

void drain(EmulatedStream& stream) {
  while (!stream.queue.empty()) run_one(stream);
}

// Runs some of what waits: all of it where the order is 0, none where it is 1.
void stir() {
  if (order == 1) return;
  if (order == 0) {
    for (EmulatedStream* stream : streams) {
      if (!stream->late) drain(*stream);
    }
    return;
  }
  for (uint64_t turns = draw(4); turns > 0; --turns) {
    EmulatedStream& stream = **std::next(streams.begin(), std::ptrdiff_t(draw(streams.size())));
    if (!stream.late && !stream.queue.empty()) run_one(stream);
  }
}

cudaError_t put(EmulatedStream* stream, Work work) {
  if (streams.count(stream) == 0) return cudaErrorInvalidValue;
  if (stream->captured_by != nullptr) {
    stream->captured_by->work.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
    stir();
  }
  return cudaSuccess;
}

// A thread that captures a stream may not allocate or wait.
bool capturing() {
  return std::any_of(streams.begin(), streams.end(), [](const EmulatedStream* stream) {
    return stream->captured_by != nullptr && stream->captured_by->maker == std::this_thread::get_id();
  });
}

// The code of a kernel, on a device when it is first asked for.
cudaError_t load(const void* kernel) {
  if (capturing() && loaded.count({device, kernel}) == 0) return cudaErrorStreamCaptureUnsupported;
  if (loaded.insert({device, kernel}).second) ++counts["loads"];
  return cudaSuccess;
}

cudaError_t waited() { return failure.empty() ? cudaSuccess : cudaErrorLaunchFailure; }

cudaError_t allocate(void** memory, size_t bytes, int on) {
  const Lock lock(mutex);
  constexpr size_t UNIT = 256;
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  if (fails("allocations") || (on >= 0 && int64_t(bytes) > limit - used(on))) return cudaErrorMemoryAllocation;
  const size_t size = (bytes + UNIT - 1) / UNIT * UNIT;
  *memory = std::aligned_alloc(UNIT, size);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, POISON, size);
  blocks[static_cast<char*>(*memory)] = {bytes, on};
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  const Lock lock(mutex);
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  for (EmulatedStream* stream : streams) {
    if (!stream->late) drain(*stream);
  }
  if (blocks.erase(static_cast<char*>(memory)) == 0) return cudaErrorInvalidValue;
  std::free(memory);
  return cudaSuccess;
}

EmulatedStream* make_stream(bool late) {
  EmulatedStream* stream = new EmulatedStream{device, late, {}};
  streams.insert(stream);
  return stream;
}

}  // namespace

cudaError_t cudaGetLastError() { return cudaSuccess; }

const char* cudaGetErrorString(cudaError_t error) {
  const Lock lock(mutex);
  static thread_local std::string text;
  text = error == cudaErrorMemoryAllocation ? "out of memory" : "error " + std::to_string(int(error));
  if (error == cudaErrorLaunchFailure) std::swap(text, failure), failure.clear();
  return text.c_str();
}

cudaError_t cudaDriverGetVersion(int* version) { return *version = 1, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = DEVICES, cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulator");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int capability = dlcore::emulator::capability;
  if (attribute == cudaDevAttrMultiProcessorCount) return *value = MULTIPROCESSORS, cudaSuccess;
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel) {
  const Lock lock(mutex);
  return load(kernel);
}

cudaError_t cudaGetDevice(int* found) { return *found = device, cudaSuccess; }

cudaError_t cudaSetDevice(int wanted) {
  if (wanted < 0 || wanted >= DEVICES) return cudaErrorInvalidDevice;
  device = wanted;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) { return allocate(memory, bytes, device); }
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return allocate(memory, bytes, -1); }
cudaError_t cudaFreeHost(void* memory) { return release(memory); }

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(mutex);
  *total = size_t(limit), *free = size_t(std::max<int64_t>(0, limit - used(device)));
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* about, const void* memory) {
  const Lock lock(mutex);
  const Block* block = block_of(memory);
  if (block == nullptr) return *about = {cudaMemoryTypeUnregistered, -1}, cudaSuccess;
  return *about = {block->device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice, block->device}, cudaSuccess;
}

// Pageable memory is read at once and written before the call returns, pinned memory when the copy runs.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Lock lock(mutex);
  if (bytes == 0) return cudaSuccess;
  ++counts["copies"];
  if (streams.count(stream) == 0 || !reaches(stream->device, to, bytes) || !reaches(stream->device, from, bytes)) {
    return cudaErrorInvalidValue;
  }
  std::shared_ptr<std::vector<char>> kept;
  if (block_of(from) == nullptr) {
    const char* p = static_cast<const char*>(from);
    kept = std::make_shared<std::vector<char>>(p, p + bytes);
  }
  const cudaError_t error =
      put(stream,
          {[to, from, bytes, kept] { std::memcpy(to, kept ? static_cast<const void*>(kept->data()) : from, bytes); },
           nullptr});
  if (error == cudaSuccess && block_of(to) == nullptr) drain(*stream);
  return error;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(mutex);
  if (bytes == 0) return cudaSuccess;
  if (streams.count(stream) == 0 || !reaches(stream->device, memory, bytes)) return cudaErrorInvalidValue;
  return put(stream, {[=] { std::memset(memory, value, bytes); }, nullptr});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(mutex);
  if (fails("allocations")) return cudaErrorMemoryAllocation;
  *stream = make_stream(false);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex);
  if (capturing()) return cudaErrorStreamCaptureUnsupported;
  drain(*stream);
  return waited();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(mutex);
  return event->mark ? put(stream, {nullptr, event->mark}) : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Lock lock(mutex);
  if (fails("allocations")) return cudaErrorMemoryAllocation;
  *event = new EmulatedEvent;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(mutex);
  const auto mark = std::make_shared<Mark>(Mark{stream});
  const cudaError_t error = put(stream, {[mark] { mark->reached = true; }, nullptr});
  if (error == cudaSuccess) event->mark = mark;
  return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(mutex);
  while (event->mark && !event->mark->reached) run_one(*event->mark->stream);
  return waited();
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  const Lock lock(mutex);
  if (fails("launches")) return cudaErrorInvalidValue;
  const cudaError_t error = load(kernel);
  if (error != cudaSuccess) return error;
  dlcore::emulator::count_launch(kernel);
  const auto thread = *static_cast<std::function<void()>*>(arguments[0]);
  return put(stream, {[=] {
                        dlcore::emulator::run_grid(
                            {grid.x, grid.y, grid.z}, block.x, shared_bytes,
                            [](void* given) { (*static_cast<std::function<void()>*>(given))(); },
                            const_cast<std::function<void()>*>(&thread));
                      },
                      nullptr});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(mutex);
  ++counts["captures"];
  stream->captured_by = new EmulatedGraph{std::this_thread::get_id(), {}};
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(mutex);
  *graph = stream->captured_by;
  stream->captured_by = nullptr;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  const Lock lock(mutex);
  if (fails("allocations")) return cudaErrorMemoryAllocation;
  *made = new EmulatedGraph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const Lock lock(mutex);
  ++counts["replays"];
  for (const Work& work : graph->work) {
    const cudaError_t error = put(stream, work);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool known = std::string(symbol) == "cuTensorMapEncodeTiled" && version >= 12000;
  *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// Refuses what the driver's manual does, and tensors that do not lie in one allocation.
CUresult cuTensorMapEncodeTiled(CUtensorMap* to, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* every, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const Lock lock(mutex);
  constexpr cuuint64_t MOST_SIZE = cuuint64_t(1) << 32, MOST_STRIDE = cuuint64_t(1) << 40, MOST_BOX = 256, ROW = 128;
  dlcore::emulator::BoxMap map = {reinterpret_cast<uintptr_t>(address), {}, {}, {}};
  bool fits = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
              swizzle == CU_TENSOR_MAP_SWIZZLE_128B && rank == 4 && map.address % 16 == 0 &&
              reinterpret_cast<uintptr_t>(to) % alignof(CUtensorMap) == 0;
  cuuint64_t last = 2 * sizes[0];
  for (cuuint32_t d = 0; d < 4 && fits; ++d) {
    map.sizes[d] = sizes[d], map.box[d] = box[d];
    fits = sizes[d] > 0 && sizes[d] <= MOST_SIZE && box[d] > 0 && box[d] <= MOST_BOX && every[d] == 1;
    if (d == 3) continue;
    map.strides[d] = strides[d], last += (sizes[d + 1] - 1) * strides[d];
    fits = fits && strides[d] % 16 == 0 && strides[d] < MOST_STRIDE;
  }
  const Block* block = block_of(address);
  fits = fits && 2 * box[0] <= ROW && box[0] % 8 == 0 && block != nullptr &&
         block_of(static_cast<const char*>(address) + last - 1) == block;
  if (!fits) return CUDA_ERROR_INVALID_VALUE;
  static_assert(sizeof map <= sizeof *to, "");
  std::memcpy(to, &map, sizeof map);
  return CUDA_SUCCESS;
}

namespace dlcore {
namespace emulator {

void set_order(uint64_t schedule) {
  const Lock lock(mutex);
  order = random_state = schedule;
  set_schedule(schedule);
}

}  // namespace emulator

int64_t emulator_count(const std::string& what) {
  const Lock lock(mutex);
  if (what == "device") return device;
  if (what == "used") return used(device);
  if (what == "waiting") {
    return std::accumulate(streams.begin(), streams.end(), int64_t(0), [](int64_t sum, const EmulatedStream* stream) {
      return sum + (stream->late ? 0 : int64_t(stream->queue.size()));
    });
  }
  return counts[what];
}

void emulator_set(const std::string& what, int64_t value) {
  const Lock lock(mutex);
  if (what == "device") {
    cudaSetDevice(int(value));
  } else if (what == "limit") {
    limit = value;
  } else if (what == "loads") {
    loaded.clear();
  } else if (what == "library") {
    dlcore::emulator::has_library = value != 0;
  } else {
    countdowns[what] = value;
  }
}

uintptr_t emulator_stream() {
  const Lock lock(mutex);
  return reinterpret_cast<uintptr_t>(make_stream(true));
}

void emulator_write(uintptr_t stream, uintptr_t address, const std::string& bytes) {
  const Lock lock(mutex);
  put(reinterpret_cast<cudaStream_t>(stream),
      {[=] { std::memcpy(reinterpret_cast<char*>(address), bytes.data(), bytes.size()); }, nullptr});
}

}  // namespace dlcore
