// SPDX-License-Identifier: Apache-2.0
// Stands in for the emulator where it is not built.
#include <stdexcept>

#include "../cuda.h"

namespace dlcore {

Backend* emulated_backend() { return nullptr; }

std::map<std::string, int64_t> emulated_launches() { return {}; }

std::vector<float> emulate_fault(const std::string&, uint64_t) {
  throw std::runtime_error("emulator: built without it; configure with DLCORE_EMULATE=ON");
}

}  // namespace dlcore
