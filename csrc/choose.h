// SPDX-License-Identifier: Apache-2.0
// Which kernels run here: those compiled in, that this processor can run, and that the user has not forbidden.
#pragma once
#include <string>
#include <vector>

#include "runtime/host.h"

namespace dlcore {

std::vector<std::string> available_sets();  // {"baseline", "avx2"}: the last is the best

// The value of DLCORE_CPU when it was first asked for, at import; empty: not set.
const std::string& forced_set();

// The set that an empty name stands for. Throws std::invalid_argument where DLCORE_CPU asks for one not available.
std::string chosen_set();

// Kernels of a set (empty: the chosen one) for f32 or f64.
const HostKernels& host_kernels(const std::string& set, DType real);

}  // namespace dlcore
