// SPDX-License-Identifier: Apache-2.0
#include "../backend.h"
#include "../cuda.h"

namespace dlcore {

Backend* emulated_backend() {
  static cuda::DLCORE_ISA::DeviceBackend backend;
  return &backend;
}

}  // namespace dlcore
