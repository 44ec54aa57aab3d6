// SPDX-License-Identifier: Apache-2.0
// What this process may use of the machine: instruction sets, cores and memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace dlcore {

std::string cpu_vendor();
// Those of interest that both the processor and the operating system support: {"avx2", "fma", ...}.
const std::vector<std::string>& instruction_sets();
// Whether this process may use matrix tiles: asked of the operating system once, at the first call.
bool tiles_permitted();

int32_t usable_cores();     // by affinity, now
int32_t default_threads();  // OMP_NUM_THREADS, else usable cores cut by the control group's quota; as first asked for
int64_t memory_limit();     // bytes: physical memory, cut by the control group's limit

}  // namespace dlcore
