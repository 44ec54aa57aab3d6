// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA backend where it is not built.
#include "cuda.h"

namespace dlcore {

Backend* make_cuda_backend() { return nullptr; }
const char* cuda_absence() { return "built without CUDA"; }

}  // namespace dlcore
