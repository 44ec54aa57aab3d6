// SPDX-License-Identifier: Apache-2.0
// Stands in for the emulator where it is not built.
#include <stdexcept>

#include "../cuda.h"

namespace dlcore {

std::map<std::string, int64_t> emulated_launches() { return {}; }

[[noreturn]] static void refuse() {
  throw std::runtime_error("emulator: built without it; configure with DLCORE_EMULATE=ON");
}

CudaInfo emulator_info() { return {false, "built without the emulator", {}, {}}; }
DeviceDoor* emulated_backend(int) { return nullptr; }

std::vector<float> emulate_fault(const std::string&, uint64_t) { refuse(); }
int64_t emulator_count(const std::string&) { refuse(); }
void emulator_set(const std::string&, int64_t) { refuse(); }
uintptr_t emulator_stream() { refuse(); }
void emulator_write(uintptr_t, uintptr_t, const std::string&) { refuse(); }
void emulate_capability(int) { refuse(); }
std::vector<int64_t> emulate_cut(const std::vector<int64_t>&) { refuse(); }
std::vector<int64_t> emulate_place(const std::vector<int64_t>&, int64_t) { refuse(); }
int emulate_swizzle(int, int, int) { refuse(); }
uint64_t emulate_descriptor(uint32_t, uint32_t) { refuse(); }

}  // namespace dlcore
