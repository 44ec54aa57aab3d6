// SPDX-License-Identifier: Apache-2.0
// A recording has one image in device memory: the views, stages and numbers of its instructions, the offset of each
// view being an address. The image is written again only when bases change, so a captured graph serves any bases.
#include "backend.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "../check.h"
#include "../runtime/names.h"
#include "../runtime/recording.h"
#include "device.h"

DLCORE_BEGIN

namespace {

typedef std::lock_guard<std::mutex> Lock;

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
  Part<TensorMap> maps;
};

template <class T>
Part<T> append(std::vector<char>& image, const std::vector<T>& values) {
  image.resize(size_t(round_up(int64_t(image.size()), alignof(T))));
  const Part<T> part = {image.size(), values.size()};
  const char* bytes = reinterpret_cast<const char*>(values.data());
  image.insert(image.end(), bytes, bytes + values.size() * sizeof(T));
  return part;
}

// Copies past registers, and bf16, came with 8.0; the instructions of wgmma are in 9.0 alone.
void check_gemm(const char* who, int device, Gemm gemm) {
  if (gemm == Gemm::automatic || gemm == Gemm::simt) return;
  if (gemm == Gemm::cublaslt) {
    const OnDevice here(device);
    return check_library(who);
  }
  const int capability = device_capability(device);
  const auto of = [](int c) { return message(c / 10, ".", c % 10); };
  CHECK_ARG(capability >= 80, who, ": expected a GPU of compute capability 8.0 or later for '", name_of(gemm),
            "', got ", of(capability), "; 'simt' serves it");
  if (gemm != Gemm::wgmma) return;
  CHECK_ARG(capability == 90, who, ": expected a GPU of compute capability 9.0 for 'wgmma', got ", of(capability),
            "; 'mma' serves it");
  CHECK_ARG(DLCORE_CUDA_90a, who, ": expected a build for compute capability 9.0 for 'wgmma', got one without it; ",
            "build with DLCORE_CUDA_ARCHS=90, or 'mma' serves it");
}

// Whose kernels run an instruction, where it is a product that says so.
Gemm gemm_of(const Instruction& in) {
  if (in.kernel != Kernel::product || in.number_count < 2) return Gemm::automatic;
  if (in.number_count > 2) return Gemm(int32_t(in.numbers[2]));
  return in.numbers[1] > 0 ? Gemm::mma : Gemm::automatic;
}

constexpr size_t PRODUCT_MAPS = 2;  // of wgmma: a map for each operand

void set_address(View& view, char* const* bases) {
  if (view.arena >= 0) view.offset += int64_t(reinterpret_cast<intptr_t>(bases[view.arena]));
}

class Bound : public Attachment {
 public:
  Bound(const Recording& recording, int device) : recording_(recording), device_(device) {
    for (size_t i = 0; i < recording.owned.size(); ++i) {
      const OwnedInstruction& owned = recording.owned[i];
      std::vector<View> views = owned.operands;
      const bool needed = recording.planned[i].entry->scratch(owned.borrow()) > 0;  // else nobody has checked it
      views.push_back(needed ? owned.scratch : absent_view());
      const bool mapped = gemm_of(recording.planned[i].instruction) == Gemm::wgmma;
      parts_.push_back({append(original_, views), append(original_, owned.chain), append(original_, numbers_of(i)),
                        append(original_, std::vector<TensorMap>(mapped ? PRODUCT_MAPS : 0))});
    }
    memory_ = naming("run: instructions", [&] { return device_allocate(int64_t(original_.size())); });
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Planned& planned = recording.planned[i];
      Instruction device = planned.instruction;
      device.operands = parts_[i].operands.in(memory_);
      device.chain = parts_[i].chain.in(memory_);
      device.numbers = parts_[i].numbers.in(memory_);
      launches_.push_back(
          {&planned.instruction, device, planned.footprint.members, planned.instruction, parts_[i].maps.in(memory_)});
      addressed_ |= is_library(planned.instruction);
    }
  }
  ~Bound() override {
    if (graph_ != nullptr) device_drop(device_, graph_);
    device_release(device_, memory_);
  }

  void bind(char* const* bases) {
    const std::vector<char*> found(bases, bases + recording_.arenas.size());
    if (found != bases_) write(found);
    if (!is_single() && graph_ == nullptr) {
      device_load(&load_of, this);
      graph_ = naming("run: instructions", [&] { return device_capture(&launch_of, this); });
    }
  }

  // A single instruction is launched alone: what fails has a name then.
  void run(bool wait) {
    if (!is_single()) return device_replay(graph_);
    launch();
    if (wait) named(recording_.steps.back(), [] { device_wait(); });
  }

 private:
  bool is_single() const { return recording_.owned.size() == 1; }

  void write(const std::vector<char*>& found) {
    for (size_t i = 0; i < found.size(); ++i) {
      const int holder = recording_.arenas[i].used ? device_of(found[i]) : device_;
      CHECK_ARG(holder == device_, "run: expected base ", i, " on device ", device_, ", got one on ",
                holder < 0 ? "the host" : message("device ", holder));
    }
    image_ = original_;
    for (size_t i = 0; i < parts_.size(); ++i) {
      address(image_.data(), parts_[i], found.data());
      if (parts_[i].maps.count > 0) make_maps(image_.data(), parts_[i], recording_.planned[i]);
    }
    device_copy(memory_, image_.data(), int64_t(image_.size()));
    if (addressed_) prepare();
    bases_ = found;
  }

  // Libraries take addresses, and a graph keeps them.
  void prepare() {
    if (graph_ != nullptr) device_drop(device_, graph_);
    graph_ = nullptr;
    for (size_t i = 0; i < launches_.size(); ++i) {
      Instruction& bound = launches_[i].bound;
      bound.operands = parts_[i].operands.in(image_.data());
      bound.chain = parts_[i].chain.in(image_.data());
      if (is_library(bound)) prepare_library(launches_[i]);
    }
  }

  static void load_of(void* bound) { static_cast<Bound*>(bound)->launch(false); }
  static void launch_of(void* bound) { static_cast<Bound*>(bound)->launch(); }

  // runs: also what libraries launch, who have loaded their kernels in `prepare`
  void launch(bool runs = true) {
    for (const Step& step : recording_.steps) {
      const Launch& launch = launches_[size_t(step.first)];
      if (!runs && step.phase == 0 && is_library(*launch.instruction)) continue;
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

  std::vector<double> numbers_of(size_t i) const {
    const Planned& planned = recording_.planned[i];
    std::vector<double> numbers = recording_.owned[i].numbers;
    const auto table = static_cast<const Entry*>(planned.entry)->table;
    for (const double x : table ? table(planned.instruction) : std::vector<double>()) numbers.push_back(x);
    return numbers;
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

  // Maps lie in the image, not among the arguments of launches, as those of a graph may not change with the bases.
  static void make_maps(char* image, const Parts& parts, const Planned& planned) {
    const Entry* entry = static_cast<const Entry*>(planned.entry);
    const std::vector<TensorMap> maps =
        entry->maps(planned.instruction, parts.operands.in(image), planned.footprint.members);
    std::memcpy(image + parts.maps.offset, maps.data(), maps.size() * sizeof(TensorMap));
  }

  const Recording& recording_;
  int device_;
  bool addressed_ = false;  // has it products by a library?
  std::vector<char> original_, image_;
  std::vector<Parts> parts_;
  std::vector<Launch> launches_;
  std::vector<char*> bases_;
  char* memory_ = nullptr;
  Graph* graph_ = nullptr;
};

class PinnedFeed : public Feed {
 public:
  PinnedFeed(int device, int64_t bytes) : device_(device) {
    const OnDevice here(device_);
    const Lock lock(device_mutex());
    try {
      host_ = naming("pinned", [&] { return device_pin(bytes); });
      memory_ = device_allocate(bytes);
      sent_ = device_sender();
      device_wait();  // for the zeros: copies run on a stream of their own
    } catch (...) {
      free();
      throw;
    }
  }
  ~PinnedFeed() override { free(); }
  char* host() const override { return host_; }
  char* memory() const override { return memory_; }
  void send(int64_t bytes) override {
    const OnDevice here(device_);
    device_send(memory_, host_, bytes, sent_);
  }
  void settle() override {
    const OnDevice here(device_);
    device_settle(sent_);
  }
  void expect() override {
    const OnDevice here(device_);
    const Lock lock(device_mutex());
    device_expect(sent_);
  }

 private:
  void free() {
    if (sent_ != nullptr) device_drop(device_, sent_);
    if (memory_ != nullptr) device_release(device_, memory_);
    if (host_ != nullptr) device_unpin(device_, host_);
  }

  int device_;
  char *host_ = nullptr, *memory_ = nullptr;
  Sent* sent_ = nullptr;
};

}  // namespace

const Traits& DeviceBackend::traits() const { return cuda::DLCORE_ISA::traits; }

char* DeviceBackend::allocate(int64_t bytes) {
  const OnDevice here(device_);
  const Lock lock(device_mutex());
  return device_allocate(bytes);
}

void DeviceBackend::release(char* memory, int64_t) { device_release(device_, memory); }

void DeviceBackend::copy(char* to, const char* from, int64_t bytes) {
  const OnDevice here(device_);
  const Lock lock(device_mutex());
  device_copy(to, from, bytes);
  device_wait();
}

void DeviceBackend::put(char* to, const char* from, int64_t bytes) {
  const OnDevice here(device_);
  const Lock lock(device_mutex());
  device_copy(to, from, bytes);
}

void DeviceBackend::settle() noexcept {
  try {
    const OnDevice here(device_);
    const Lock lock(device_mutex());
    device_wait();
  } catch (const std::exception&) {  // somebody reports why we are here
  }
}

int64_t DeviceBackend::scratch(const Instruction& instruction) const {
  check_instruction(instruction, traits(), "scratch");
  return kernel_table[int32_t(instruction.kernel)]->scratch(instruction);
}

Layout DeviceBackend::layout(Role, int64_t m, int64_t n, int64_t k, bool) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "layout: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  return Layout::row_major;
}

int32_t DeviceBackend::terms(Precision precision, int64_t m, int64_t n, int64_t k, Gemm gemm) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "terms: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  check_gemm("gemm", device_, gemm);
  if (gemm != Gemm::mma && gemm != Gemm::wgmma) return 0;
  return precision == Precision::float32 ? 6 : precision == Precision::bf16x3 ? 3 : 1;
}

// Launches follow one another, so blocks of rows would gain nothing.
Recording* DeviceBackend::record(const Section* sections, int32_t count) {
  std::vector<Section> flat(sections, sections + count);
  for (Section& section : flat) section.block_rows = std::min<int64_t>(section.block_rows, 0);
  std::unique_ptr<Recording> recording(record_sections(flat.data(), count, kernel_table, traits()));
  for (const Planned& planned : recording->planned) {
    const Instruction& in = planned.instruction;
    check_gemm("record product", device_, gemm_of(in));
    CHECK_ARG(planned.footprint.members <= MEMBER_LIMIT, "record: expected at most ", MEMBER_LIMIT, " members, got ",
              planned.footprint.members);
  }
  recording->home = this;
  return recording.release();
}

// Everything is bound before anything runs: where there is no memory for it, nothing has changed.
void DeviceBackend::run(const Program* programs, int32_t count, char* const* bases, int32_t threads) {
  const OnDevice here(device_);
  const Lock lock(device_mutex());
  device_order(uint64_t(threads - 1));
  for (int32_t p = 0; p < count; ++p) {
    for (int32_t r = 0; r < programs[p].count; ++r) {
      const Recording& recording = *programs[p].recordings[r];
      if (recording.attachment == nullptr) recording.attachment = std::make_unique<Bound>(recording, device_);
      static_cast<Bound&>(*recording.attachment).bind(bases);
    }
  }
  for (int32_t p = 0; p < count; ++p) {
    for (int64_t time = 0; time < programs[p].times; ++time) {
      for (int32_t r = 0; r < programs[p].count; ++r) {
        const Recording& recording = *programs[p].recordings[r];
        static_cast<Bound&>(*recording.attachment).run(programs[p].count > 1 || time + 1 == programs[p].times);
        for (const Step& step : recording.steps) recording.calls += step.calls, recording.bytes += step.bytes;
      }
    }
  }
  device_wait();
}

int64_t DeviceBackend::room() const {
  const OnDevice here(device_);
  return device_room().free;
}

int DeviceBackend::holder(const char* memory) const {
  const OnDevice here(device_);
  return device_of(memory);
}

uintptr_t DeviceBackend::stream() const {
  const OnDevice here(device_);
  return device_stream();
}

void DeviceBackend::follow(uintptr_t the_stream) const {
  const OnDevice here(device_);
  const Lock lock(device_mutex());
  device_follow(the_stream);
}

Feed* DeviceBackend::feed(int64_t bytes) const { return new PinnedFeed(device_, bytes); }

DeviceBackend* backend_on(int device) {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<DeviceBackend>> backends;
  if (!device_absence().empty()) return nullptr;
  const Lock lock(mutex);
  const int count = int(device_names().size());
  while (int(backends.size()) < count) backends.push_back(std::make_unique<DeviceBackend>(int(backends.size())));
  return device >= 0 && device < count ? backends[size_t(device)].get() : nullptr;
}

DLCORE_END
