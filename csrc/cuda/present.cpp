// SPDX-License-Identifier: Apache-2.0
#include "backend.h"
#include "cuda.h"
#include "device.h"

namespace dlcore {

CudaInfo cuda_info() {
  CudaInfo info{true, cuda::DLCORE_ISA::device_absence(), {}, {}};
  if (info.absence.empty()) info.devices = cuda::DLCORE_ISA::device_names();
  std::string name;
  for (const char* c = DLCORE_CUDA_ARCHS;; ++c) {
    if (*c != ',' && *c != 0) {
      name += *c;
      continue;
    }
    info.architectures.push_back(name);
    name.clear();
    if (*c == 0) return info;
  }
}

DeviceDoor* cuda_backend(int device) { return cuda::DLCORE_ISA::backend_on(device); }

}  // namespace dlcore
