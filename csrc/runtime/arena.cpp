// SPDX-License-Identifier: Apache-2.0
// Small blocks come from the heap. Blocks of a huge page or more are mapped at a huge page's boundary, so that the
// kernel can back them with huge pages, the last one where it would be mostly used; their zeros cost nothing until they
// are touched.
#include "arena.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "../backend.h"
#include "../check.h"
#include "machine.h"

namespace dlcore {
namespace {

constexpr int64_t HUGE_PAGE = 2 << 20;

int64_t rounded(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

[[noreturn]] void refuse(int64_t bytes) {
  throw NoMemory(message("expected ", bytes_text(bytes), ", got no more than ", bytes_text(memory_limit())));
}

// Maps a huge page too much and gives back both ends.
char* map_huge(int64_t bytes) {
  const int64_t size = rounded(bytes, HUGE_PAGE), huge = (bytes + HUGE_PAGE / 4) / HUGE_PAGE * HUGE_PAGE;
  const int64_t mapped = size + HUGE_PAGE;
  void* memory = mmap(nullptr, size_t(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) refuse(size);
  char* start = static_cast<char*>(memory);
  const int64_t head =
      rounded(int64_t(reinterpret_cast<intptr_t>(start)), HUGE_PAGE) - reinterpret_cast<intptr_t>(start);
  if (head > 0) munmap(start, size_t(head));
  if (head < HUGE_PAGE) munmap(start + head + size, size_t(HUGE_PAGE - head));
#ifdef MADV_HUGEPAGE
  madvise(start + head, size_t(huge), MADV_HUGEPAGE);
#endif
  return start + head;
}

}  // namespace

char* allocate_memory(int64_t bytes) {
  if (bytes < 0 || bytes > memory_limit()) refuse(bytes);
  if (bytes >= HUGE_PAGE) return map_huge(bytes);
  const int64_t size = rounded(bytes > 0 ? bytes : 1, ALIGNMENT);
  void* memory = std::aligned_alloc(size_t(ALIGNMENT), size_t(size));
  if (memory == nullptr) refuse(bytes);
  std::memset(memory, 0, size_t(size));
  return static_cast<char*>(memory);
}

void free_memory(char* memory, int64_t bytes) {
  if (bytes >= HUGE_PAGE) {
    munmap(memory, size_t(rounded(bytes, HUGE_PAGE)));
  } else {
    std::free(memory);
  }
}

}  // namespace dlcore
