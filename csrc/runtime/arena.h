// SPDX-License-Identifier: Apache-2.0
// Memory of the host: aligned, zeroed, on huge pages when large.
#pragma once
#include <cstdint>

namespace dlcore {

// Throws NoMemory when the machine cannot hold that many bytes; never returns nullptr.
char* allocate_memory(int64_t bytes);
void free_memory(char* memory, int64_t bytes);

}  // namespace dlcore
