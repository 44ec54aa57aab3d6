// SPDX-License-Identifier: Apache-2.0
// The emulated twins of arch/sm80.cuh, from the fragment layouts of the PTX manual. Bank conflicts of load_matrices are
// faults.
#pragma once
#include "../launch.cuh"

#define DLCORE_SM80

namespace dlcore {
namespace emulator {
Work multiply_fragments_f16;
}
}  // namespace dlcore

DLCORE_BEGIN

inline void copy16(void* to, const void* from, bool there) { emulator::copy_later(to, from, there ? 16 : 0); }
inline void commit_copies() { emulator::commit_copies(); }

template <int pending>
inline void wait_copies() {
  emulator::wait_copies(pending);
}

template <bool transposed>
inline void load_matrices(const void* row, uint32_t (&x)[4]) {
  emulator::Rows rows = {row, transposed, {}};
  emulator::together(emulator::load_rows, &rows);
  for (int i = 0; i < 4; ++i) x[i] = rows.loaded[i];
}

inline void multiply_together(emulator::Work* work, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::Fragments fragments = {{c[0], c[1], c[2], c[3]}, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulator::together(work, &fragments);
  for (int i = 0; i < 4; ++i) c[i] = fragments.c[i];
}

inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_together(emulator::multiply_fragments, c, a, b0, b1);
}

inline void multiply_add_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_together(emulator::multiply_fragments_f16, c, a, b0, b1);
}

DLCORE_END
