// SPDX-License-Identifier: Apache-2.0
// x86 features by cpuid, counted only when the operating system saves the registers they use (xgetbv); cores by the
// affinity mask; quota and memory limit from the control group (version 2), as containers set them.
#include "machine.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace dlcore {
namespace {

#if defined(__x86_64__)
struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  Leaf(uint32_t leaf, uint32_t subleaf) {
    if (!__get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx)) eax = ebx = ecx = edx = 0;
  }
};

bool bit(uint32_t word, int index) { return (word >> index & 1) != 0; }

// Register state the operating system saves.
uint32_t saved_state() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}
#endif

// The first line of a file of this process's control group, or of the root's; empty when there is none.
std::string control_group_value(const char* file) {
  std::string line, group;
  for (std::ifstream groups("/proc/self/cgroup"); std::getline(groups, line);) {
    if (line.compare(0, 3, "0::") == 0) group = line.substr(3);
  }
  for (const std::string& folder : {std::string("/sys/fs/cgroup") + group + "/", std::string("/sys/fs/cgroup/")}) {
    std::ifstream in(folder + file);
    if (std::getline(in, line)) return line;
  }
  return "";
}

// Usable cores, cut by the quota of the control group.
int32_t cores_of_quota() {
  const std::string quota = control_group_value("cpu.max");  // "200000 100000": microseconds of each period
  char* rest = nullptr;
  const long long used = std::strtoll(quota.c_str(), &rest, 10), period = std::strtoll(rest, nullptr, 10);
  const int32_t cores = usable_cores();
  if (used <= 0 || period <= 0) return cores;
  const long long whole = (used + period - 1) / period;
  return whole < cores ? int32_t(whole) : cores;
}

}  // namespace

std::string cpu_vendor() {
#if defined(__x86_64__)
  const Leaf leaf(0, 0);
  char name[13] = {};
  std::memcpy(name, &leaf.ebx, 4);
  std::memcpy(name + 4, &leaf.edx, 4);
  std::memcpy(name + 8, &leaf.ecx, 4);
  return name;
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown";
#endif
}

// Every cpuid leaves a virtual machine for its host: tens of microseconds, so it is asked once.
static std::vector<std::string> read_instruction_sets() {
  std::vector<std::string> sets;
#if defined(__x86_64__)
  const Leaf basic(1, 0), extended(7, 0), more(7, 1);
  const uint32_t state = bit(basic.ecx, 27) ? saved_state() : 0;
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  const struct {
    const char* name;
    bool present;
  } features[] = {{"sse2", bit(basic.edx, 26)},
                  {"avx", ymm && bit(basic.ecx, 28)},
                  {"avx2", ymm && bit(extended.ebx, 5)},
                  {"fma", ymm && bit(basic.ecx, 12)},
                  {"f16c", ymm && bit(basic.ecx, 29)},
                  {"avx512f", zmm && bit(extended.ebx, 16)},
                  {"avx512bw", zmm && bit(extended.ebx, 30)},
                  {"avx512dq", zmm && bit(extended.ebx, 17)},
                  {"avx512vl", zmm && bit(extended.ebx, 31)},
                  {"avx512_bf16", zmm && bit(more.eax, 5)},
                  {"amx_tile", tiles && bit(extended.edx, 24)},
                  {"amx_bf16", tiles && bit(extended.edx, 22)}};
  for (const auto& feature : features) {
    if (feature.present) sets.push_back(feature.name);
  }
#elif defined(__aarch64__)
  sets.push_back("neon");
#endif
  return sets;
}

const std::vector<std::string>& instruction_sets() {
  static const std::vector<std::string> sets = read_instruction_sets();
  return sets;
}

bool tiles_permitted() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  static const bool permitted = syscall(SYS_arch_prctl, request, tile_data) == 0;
  return permitted;
#else
  return false;
#endif
}

int32_t usable_cores() {
  cpu_set_t mask;  // of 1024 processors; a larger machine makes the call fail
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) return CPU_COUNT(&mask);
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? int32_t(online) : 1;
}

int32_t default_threads() {
  static const int32_t threads = [] {
    const char* value = std::getenv("OMP_NUM_THREADS");  // "4" or "4,2": one number a nesting level
    const long asked = value != nullptr ? std::strtol(value, nullptr, 10) : 0;
    return asked > 0 && asked <= 1024 ? int32_t(asked) : cores_of_quota();
  }();
  return threads;
}

int64_t memory_limit() {
  static const int64_t limit = [] {
    const int64_t physical = int64_t(sysconf(_SC_PHYS_PAGES)) * int64_t(sysconf(_SC_PAGE_SIZE));
    const long long group = std::strtoll(control_group_value("memory.max").c_str(), nullptr, 10);  // "max" reads as 0
    return group > 0 && group < physical ? int64_t(group) : physical;
  }();
  return limit;
}

}  // namespace dlcore
