// SPDX-License-Identifier: Apache-2.0
// Stands in for the emulator where it is not built.
#include <stdexcept>

#include "../cuda.h"

namespace dlcore {

Backend* emulated_backend() { return nullptr; }

[[noreturn]] static void refuse() {
  throw std::runtime_error("emulator: built without it; configure with DLCORE_EMULATE=ON");
}

std::vector<float> emulate_fault(const std::string&, uint64_t) { refuse(); }
void emulate_capability(int) { refuse(); }
std::vector<int64_t> emulate_cut(const std::vector<int64_t>&) { refuse(); }
std::vector<int64_t> emulate_place(const std::vector<int64_t>&, int64_t) { refuse(); }
int emulate_swizzle(int, int, int) { refuse(); }

}  // namespace dlcore
