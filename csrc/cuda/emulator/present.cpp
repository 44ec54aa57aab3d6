// SPDX-License-Identifier: Apache-2.0
#include "../backend.h"
#include "../cuda.h"
#include "../device.h"

namespace dlcore {

CudaInfo emulator_info() {
  return {true, cuda::DLCORE_ISA::device_absence(), cuda::DLCORE_ISA::device_names(), {"host"}};
}

DeviceDoor* emulated_backend(int device) { return cuda::DLCORE_ISA::backend_on(device); }

}  // namespace dlcore
