// SPDX-License-Identifier: Apache-2.0
// The one place that names instruction sets.
#include "backend.h"

#include <algorithm>
#include <cstdlib>

#include "check.h"
#include "choose.h"
#include "runtime/machine.h"

// What cpu/kernels.h declares inside each set's namespace.
#define DLCORE_DECLARE(isa)                                                                                \
  namespace cpu {                                                                                          \
  namespace isa {                                                                                          \
  extern const KernelEntry* const kernel_table[];                                                          \
  extern const Traits traits;                                                                              \
  Layout operand_layout(Role, int64_t m, int64_t n, int64_t k, bool kept);                                 \
  int32_t product_terms(Precision, int64_t m, int64_t n, int64_t k);                                       \
  double fma_probe(int64_t rounds, double* sink);                                                          \
  void memory_probe(char* const* read, int32_t reads, char* const* written, int32_t writes, int64_t bytes, \
                    int64_t times, double* sink);                                                          \
  }                                                                                                        \
  }
#define DLCORE_KERNELS(isa)                                                \
  {cpu::isa::kernel_table,  &cpu::isa::traits,   cpu::isa::operand_layout, \
   cpu::isa::product_terms, cpu::isa::fma_probe, cpu::isa::memory_probe}

namespace dlcore {

DLCORE_DECLARE(baseline_f32)
DLCORE_DECLARE(baseline_f64)
#if defined(__x86_64__)
DLCORE_DECLARE(avx2_f32)
DLCORE_DECLARE(avx2_f64)
DLCORE_DECLARE(avx512_f32)
DLCORE_DECLARE(avx512_f64)
#endif
#if DLCORE_AMX
DLCORE_DECLARE(amx_f32)
#endif
#if DLCORE_STANDIN
DLCORE_DECLARE(standin_f32)
#endif

namespace {

struct InstructionSet {
  const char* name;
  std::vector<const char*> needs;  // as runtime/machine.h names them
  HostKernels f32, f64;
};

// From plain to best; first those that are taken by name only: a set for tests, and amx, as it has not run yet on a
// processor that has it.
const std::vector<InstructionSet>& compiled_sets() {
  static const std::vector<InstructionSet> sets = {
#if DLCORE_STANDIN
#if defined(__x86_64__)
      {"standin", {"avx2", "fma", "f16c"}, DLCORE_KERNELS(standin_f32), DLCORE_KERNELS(avx2_f64)},
#else
      {"standin", {}, DLCORE_KERNELS(standin_f32), DLCORE_KERNELS(baseline_f64)},
#endif
#endif
#if DLCORE_AMX
      {"amx",
       {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "amx_tile", "amx_bf16"},
       DLCORE_KERNELS(amx_f32),
       DLCORE_KERNELS(avx512_f64)},
#endif
      {"baseline", {}, DLCORE_KERNELS(baseline_f32), DLCORE_KERNELS(baseline_f64)},
#if defined(__x86_64__)
      {"avx2", {"avx2", "fma", "f16c"}, DLCORE_KERNELS(avx2_f32), DLCORE_KERNELS(avx2_f64)},
      {"avx512",
       {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
       DLCORE_KERNELS(avx512_f32),
       DLCORE_KERNELS(avx512_f64)},
#endif
  };
  return sets;
}

bool runs_here(const InstructionSet& set) {
  const std::vector<std::string>& present = instruction_sets();
  return std::all_of(set.needs.begin(), set.needs.end(), [&](const char* need) {
    if (std::find(present.begin(), present.end(), need) == present.end()) return false;
    return std::string(need) != "amx_tile" || tiles_permitted();
  });
}

const InstructionSet& find_set(const std::string& name, const char* who) {
  std::string names;
  for (const InstructionSet& set : compiled_sets()) {
    if (!runs_here(set)) continue;
    if (name == set.name) return set;
    names += (names.empty() ? "" : ", ") + std::string(set.name);
  }
  throw std::invalid_argument(message(who, ": expected one of ", names, " (available here), got '", name, "'"));
}

}  // namespace

std::vector<std::string> available_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : compiled_sets()) {
    if (runs_here(set)) names.push_back(set.name);
  }
  return names;
}

const std::string& forced_set() {
  static const std::string forced = [] {
    const char* value = std::getenv("DLCORE_CPU");
    return std::string(value != nullptr ? value : "");
  }();
  return forced;
}

std::string chosen_set() {
  return forced_set().empty() ? available_sets().back() : find_set(forced_set(), "DLCORE_CPU").name;
}

const HostKernels& host_kernels(const std::string& name, DType real) {
  const InstructionSet& set = find_set(name.empty() ? chosen_set() : name, "isa");
  return real == DType::f64 ? set.f64 : set.f32;
}

}  // namespace dlcore
