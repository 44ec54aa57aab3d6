// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA backend where it is not built.
#include "cuda.h"

namespace dlcore {

CudaInfo cuda_info() { return {false, "built without CUDA", {}, {}}; }
DeviceDoor* cuda_backend(int) { return nullptr; }

}  // namespace dlcore
