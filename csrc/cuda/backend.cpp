// SPDX-License-Identifier: Apache-2.0
// A recording has one image in device memory: the views, stages and numbers of its instructions, the offset of each
// view being an address. The image is written again only when bases change, so a captured graph serves any bases.
#include "backend.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <stdexcept>

#include "../check.h"
#include "../runtime/names.h"
#include "../runtime/recording.h"
#include "device.h"

DLCORE_BEGIN

namespace {

std::mutex device_mutex;

constexpr int32_t MEMBER_LIMIT = 65535;  // of a grid's second dimension

// A run of values in the image.
template <class T>
struct Part {
  size_t offset = 0, count = 0;
  T* in(char* image) const { return reinterpret_cast<T*>(image + offset); }
};

struct Parts {
  Part<View> operands;  // and scratch, the last
  Part<Stage> chain;
  Part<double> numbers;
};

template <class T>
Part<T> append(std::vector<char>& image, const std::vector<T>& values) {
  const Part<T> part = {image.size(), values.size()};
  const char* bytes = reinterpret_cast<const char*>(values.data());
  image.insert(image.end(), bytes, bytes + values.size() * sizeof(T));
  return part;
}

// Copies past registers, and bf16, came with 8.0.
void check_mma(const char* who) {
  const int capability = device_capability();
  CHECK_ARG(capability >= 80, who, ": expected a GPU of compute capability 8.0 or later for 'mma', got ",
            capability / 10, ".", capability % 10, "; 'simt' serves it");
}

void set_address(View& view, char* const* bases) {
  if (view.arena >= 0) view.offset += int64_t(reinterpret_cast<intptr_t>(bases[view.arena]));
}

class Bound : public Attachment {
 public:
  explicit Bound(const Recording& recording) : recording_(recording) {
    for (size_t i = 0; i < recording.owned.size(); ++i) {
      const OwnedInstruction& owned = recording.owned[i];
      std::vector<View> views = owned.operands;
      const bool needed = recording.planned[i].entry->scratch(owned.borrow()) > 0;  // else nobody has checked it
      views.push_back(needed ? owned.scratch : absent_view());
      parts_.push_back({append(original_, views), append(original_, owned.chain), append(original_, owned.numbers)});
    }
    memory_ = device_allocate(int64_t(original_.size()));
    if (memory_ == nullptr) throw std::bad_alloc();
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Planned& planned = recording.planned[i];
      Instruction device = planned.instruction;
      device.operands = parts_[i].operands.in(memory_);
      device.chain = parts_[i].chain.in(memory_);
      device.numbers = parts_[i].numbers.in(memory_);
      launches_.push_back({&planned.instruction, device, planned.footprint.members});
    }
  }
  ~Bound() override {
    if (graph_ != nullptr) device_drop(graph_);
    device_release(memory_);
  }

  void bind(char* const* bases) {
    std::vector<char*> found(bases, bases + recording_.arenas.size());
    if (found == bases_) return;
    std::vector<char> image = original_;
    for (const Parts& parts : parts_) address(image.data(), parts, bases);
    device_copy(memory_, image.data(), int64_t(image.size()));
    bases_ = found;
  }

  // A single instruction is launched alone: what fails has a name then.
  void run() {
    if (recording_.steps.size() > 1 && graph_ == nullptr) graph_ = device_capture(&launch_of, this);
    if (graph_ != nullptr) return device_replay(graph_);
    launch();
    if (recording_.steps.size() == 1) named(recording_.steps[0], [] { device_wait(); });
  }

 private:
  static void launch_of(void* bound) { static_cast<Bound*>(bound)->launch(); }

  void launch() {
    for (const Step& step : recording_.steps) {
      const Launch& launch = launches_[size_t(step.first)];
      const Entry* entry = static_cast<const Entry*>(recording_.planned[size_t(step.first)].entry);
      named(step, [&] { entry->launch(launch, step.phase); });
    }
  }

  template <class Work>
  void named(const Step& step, Work work) const {
    try {
      work();
    } catch (const std::runtime_error& error) {
      const Instruction& instruction = *launches_[size_t(step.first)].instruction;
      throw std::runtime_error(message("run: instruction ", step.first, " ", name_of(instruction.kernel), " (",
                                       instruction.rows, ", ", instruction.cols, "), launch ", step.phase, ": ",
                                       error.what()));
    }
  }

  // Turns the offsets of an instruction into addresses.
  static void address(char* image, const Parts& parts, char* const* bases) {
    for (size_t v = 0; v < parts.operands.count; ++v) set_address(parts.operands.in(image)[v], bases);
    for (size_t s = 0; s < parts.chain.count; ++s) {
      Stage& stage = parts.chain.in(image)[s];
      for (View* view : {&stage.operand, &stage.operand_scale, &stage.operand_shift, &stage.a, &stage.b, &stage.c,
                         &stage.out, &stage.out2}) {
        set_address(*view, bases);
      }
    }
  }

  const Recording& recording_;
  std::vector<char> original_;
  std::vector<Parts> parts_;
  std::vector<Launch> launches_;
  std::vector<char*> bases_;
  char* memory_ = nullptr;
  Graph* graph_ = nullptr;
};

}  // namespace

const Traits& DeviceBackend::traits() const { return cuda::DLCORE_ISA::traits; }

char* DeviceBackend::allocate(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  char* memory = device_allocate(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void DeviceBackend::release(char* memory, int64_t) { device_release(memory); }

void DeviceBackend::copy(char* to, const char* from, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  device_copy(to, from, bytes);
  device_wait();
}

int64_t DeviceBackend::scratch(const Instruction& instruction) const {
  check_instruction(instruction, traits(), "scratch");
  return kernel_table[int32_t(instruction.kernel)]->scratch(instruction);
}

Layout DeviceBackend::layout(Role, int64_t m, int64_t n, int64_t k) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "layout: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  return Layout::row_major;
}

int32_t DeviceBackend::terms(Precision precision, int64_t m, int64_t n, int64_t k, Gemm gemm) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "terms: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  if (gemm != Gemm::mma) return 0;
  check_mma("gemm");
  return precision == Precision::float32 ? 6 : precision == Precision::bf16x3 ? 3 : 1;
}

// Launches follow one another, so blocks of rows would gain nothing.
Recording* DeviceBackend::record(const Section* sections, int32_t count) {
  std::vector<Section> flat(sections, sections + count);
  for (Section& section : flat) section.block_rows = std::min<int64_t>(section.block_rows, 0);
  std::unique_ptr<Recording> recording(record_sections(flat.data(), count, kernel_table, traits()));
  for (const Planned& planned : recording->planned) {
    const Instruction& in = planned.instruction;
    if (in.kernel == Kernel::product && in.number_count > 1 && in.numbers[1] > 0) check_mma("record product");
    CHECK_ARG(planned.footprint.members <= MEMBER_LIMIT, "record: expected at most ", MEMBER_LIMIT, " members, got ",
              planned.footprint.members);
  }
  return recording.release();
}

void DeviceBackend::run(const Program* programs, int32_t count, char* const* bases, int32_t threads) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  device_order(uint64_t(threads - 1));
  for (int32_t p = 0; p < count; ++p) {
    for (int64_t time = 0; time < programs[p].times; ++time) {
      for (int32_t r = 0; r < programs[p].count; ++r) {
        const Recording& recording = *programs[p].recordings[r];
        if (recording.attachment == nullptr) recording.attachment = std::make_unique<Bound>(recording);
        Bound& bound = static_cast<Bound&>(*recording.attachment);
        bound.bind(bases);
        bound.run();
        for (const Step& step : recording.steps) recording.calls += step.calls, recording.bytes += step.bytes;
      }
    }
  }
  device_wait();
}

DLCORE_END
