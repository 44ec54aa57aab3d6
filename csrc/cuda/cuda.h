// SPDX-License-Identifier: Apache-2.0
// The door to the CUDA backend, built or not.
#pragma once
#include "../backend.h"

namespace dlcore {

Backend* make_cuda_backend();  // nullptr when there is none, for the reason that cuda_absence gives
const char* cuda_absence();

}  // namespace dlcore
