// SPDX-License-Identifier: Apache-2.0
// Launches by kernel. The linker exports the kernels of the emulator, so the loader knows their names.
#include <dlfcn.h>

#include "../cuda.h"
#include "simt.h"

namespace dlcore {

static std::map<const void*, int64_t> launches;

void emulator::count_launch(const void* kernel) { ++launches[kernel]; }

std::map<std::string, int64_t> emulated_launches() {
  std::map<std::string, int64_t> found;
  for (const auto& [kernel, count] : launches) {
    Dl_info symbol = {};
    if (dladdr(kernel, &symbol) != 0 && symbol.dli_saddr == kernel) found[symbol.dli_sname] = count;
  }
  return found;
}

}  // namespace dlcore
