// SPDX-License-Identifier: Apache-2.0
// The emulated twins of arch/sm90.cuh, from the PTX manual (sm90.cpp). Copies and products happen as late as they may.
#pragma once
#include "../launch.cuh"

DLCORE_BEGIN

typedef emulator::Barrier Barrier;

inline uint32_t shared_address(const void* p) { return uint32_t(static_cast<const char*>(p) - emulator::here.shared); }

inline void init_barrier(Barrier& barrier, int arrivals) { emulator::init_barrier(barrier, arrivals); }
inline void publish_barriers() { emulator::publish_barriers(); }
inline void arrive(Barrier& barrier) { emulator::arrive(barrier, 0); }
inline void arrive_expecting(Barrier& barrier, int bytes) { emulator::arrive(barrier, bytes); }
inline void wait_barrier(Barrier& barrier, uint32_t parity) { emulator::wait_barrier(barrier, parity); }

inline void acquire_map(const TensorMap* map) { emulator::acquire_map(map); }
inline void copy_box(void* to, const TensorMap* map, int x, int y, int z, int w, Barrier& barrier) {
  emulator::copy_box(to, map, {x, y, z, w}, barrier);
}

template <int count>
inline void give_registers() {}
template <int count>
inline void take_registers() {}

inline void fence_sums() { emulator::fence_sums(); }
inline void commit_products() {
  emulator::Wait commit = {emulator::here.thread.x, 0};
  emulator::together(emulator::commit_products, &commit);
}

template <int pending>
inline void wait_products() {
  emulator::Wait wait = {emulator::here.thread.x, pending};
  emulator::together(emulator::wait_products, &wait);
}

template <bool a_down, bool b_down, int blocks>
inline void multiply_add(float (&c)[blocks][4], uint64_t a_matrix, uint64_t b_matrix, bool adds) {
  emulator::Product product = {emulator::here.thread.x, c[0], blocks, {a_matrix, a_down}, {b_matrix, b_down}, adds};
  emulator::together(emulator::issue_product, &product);
}

DLCORE_END
