// SPDX-License-Identifier: Apache-2.0
#include "host.h"

#include <cstring>

#include "../check.h"
#include "arena.h"
#include "names.h"
#include "recording.h"

namespace dlcore {

char* HostBackend::allocate(int64_t bytes) { return allocate_memory(bytes); }

void HostBackend::release(char* memory, int64_t bytes) { free_memory(memory, bytes); }

void HostBackend::copy(char* to, const char* from, int64_t bytes) { std::memcpy(to, from, size_t(bytes)); }

int64_t HostBackend::scratch(const Instruction& instruction) const {
  check_instruction(instruction, *kernels_.traits, "scratch");
  return kernels_.table[int32_t(instruction.kernel)]->scratch(instruction);
}

int64_t HostBackend::depth(const Instruction& instruction) const {
  check_instruction(instruction, *kernels_.traits, "depth");
  const KernelEntry* entry = kernels_.table[int32_t(instruction.kernel)];
  return entry->depth != nullptr ? entry->depth(instruction) : 0;
}

Layout HostBackend::layout(Role role, int64_t m, int64_t n, int64_t k, bool kept) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "layout: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  return kernels_.layout(role, m, n, k, kept);
}

int32_t HostBackend::terms(Precision precision, int64_t m, int64_t n, int64_t k, Gemm gemm) const {
  CHECK_ARG(m > 0 && n > 0 && k > 0, "terms: expected positive m, n and k, got (", m, ", ", n, ", ", k, ")");
  CHECK_ARG(gemm == Gemm::automatic, "gemm: expected 'auto' on the CPU, got '", name_of(gemm),
            "'; its kernels are those of device='cuda'");
  return kernels_.terms(precision, m, n, k);
}

Recording* HostBackend::record(const Section* sections, int32_t count) {
  return record_sections(sections, count, kernels_.table, *kernels_.traits);
}

void HostBackend::run(const Program* programs, int32_t count, char* const* bases, int32_t threads) {
  run_programs(programs, count, bases, threads);
}

}  // namespace dlcore
