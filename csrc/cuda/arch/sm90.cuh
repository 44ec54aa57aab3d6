// SPDX-License-Identifier: Apache-2.0
// What tensor-core kernels use of compute capability 9.0 (sm_90a): barriers in shared memory that count bytes, copies
// of boxes of a tensor by its map, products of a warpgroup that read shared memory through descriptors, and registers
// that go from one warpgroup to another. After the PTX manual's "Asynchronous Warpgroup Level Matrix Instructions",
// "mbarrier" and "cp.async.bulk.tensor".
#pragma once
#include "../launch.cuh"

DLCORE_BEGIN

// Rows of 128 bytes, chunks of 16 bytes of which are XORed with the row: tensor maps write so, products read so. Eight
// rows are a pattern, which begins at a multiple of its bytes.
constexpr int SWIZZLED_ROW = 64, SWIZZLED_BYTES = 1024;  // elements; bytes of a pattern

// As products read a matrix that begins at this address of shared memory. Eight rows follow on eight; a matrix whose
// depth runs down has `leading` bytes between blocks of 64 columns.
DLCORE_HD uint64_t describe_matrix(uint32_t address, uint32_t leading) {
  const auto field = [](uint32_t bytes) { return uint64_t((bytes & 0x3ffff) >> 4); };
  return field(address) | field(leading) << 16 | field(SWIZZLED_BYTES) << 32 | uint64_t(1) << 62;
}

DLCORE_END

#ifdef DLCORE_EMULATOR
#include "../emulator/sm90.h"
#else

DLCORE_BEGIN

__device__ inline uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// ---- barriers: a phase ends when all arrivals and all expected bytes have come
typedef uint64_t Barrier;

__device__ inline void init_barrier(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}

// Behind the last init_barrier: copies know the barriers then.
__device__ inline void publish_barriers() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// An arrival that makes the phase wait for so many bytes of copies too.
__device__ inline void arrive_expecting(Barrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}

// Until the phase of this parity has ended; of a new barrier the one of parity 1 has.
__device__ inline void wait_barrier(Barrier& barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}

// ---- copies
// Once in a thread that copies: the host has written the map by a copy, not as an argument.
__device__ inline void acquire_map(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}

// The box of the map at (x, y, z, w), zeros where the tensor is not; its bytes, those too, count at the barrier.
__device__ inline void copy_box(void* to, const TensorMap* map, int x, int y, int z, int w, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

// ---- registers: of every warp of a warpgroup at once
template <int count>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// ---- products of a warpgroup
// Before the first product, and wherever registers of sums were touched since.
__device__ inline void fence_sums() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// The products since the last commit are a group.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most the last `pending` groups are on their way; the sums of the others may be touched.
template <int pending>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

#define DLCORE_SUMS4(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define DLCORE_SUMS16(j) DLCORE_SUMS4(j), DLCORE_SUMS4(j + 1), DLCORE_SUMS4(j + 2), DLCORE_SUMS4(j + 3)
#define DLCORE_SUMS32(j) DLCORE_SUMS16(j), DLCORE_SUMS16(j + 4)
#define DLCORE_SUMS64(j) DLCORE_SUMS32(j), DLCORE_SUMS32(j + 8)
#define DLCORE_NAMES32                                                     \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DLCORE_NAMES64                                                                 \
  DLCORE_NAMES32                                                                       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DLCORE_NAMES128                                                                          \
  DLCORE_NAMES64                                                                                 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define DLCORE_WGMMA(n, names, a, b, add, down_a, down_b, ...)                                                       \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add                                                               \
               ", 0;\n"                                                                                              \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" names "}, " a ", " b ", p, 1, 1, " down_a \
               ", " down_b ";\n}"                                                                                    \
               : __VA_ARGS__                                                                                         \
               : "l"(a_matrix), "l"(b_matrix), "r"(int(adds)), "n"(int(a_down)), "n"(int(b_down)))

// c (64, 8 blocks) = a (64, 16) b (16, 8 blocks) + c if it adds; of warp w of the warpgroup rows 16 w to 16 w + 15, in
// each block as multiply_add of sm80.cuh leaves them. down: the depth runs down the matrix, not along its rows.
template <bool a_down, bool b_down, int blocks>
__device__ inline void multiply_add(float (&c)[blocks][4], uint64_t a_matrix, uint64_t b_matrix, bool adds) {
  static_assert(blocks == 8 || blocks == 16 || blocks == 32, "");
  if constexpr (blocks == 8) {
    DLCORE_WGMMA("64", DLCORE_NAMES32, "%32", "%33", "%34", "%35", "%36", DLCORE_SUMS32(0));
  } else if constexpr (blocks == 16) {
    DLCORE_WGMMA("128", DLCORE_NAMES64, "%64", "%65", "%66", "%67", "%68", DLCORE_SUMS64(0));
  } else {
    DLCORE_WGMMA("256", DLCORE_NAMES128, "%128", "%129", "%130", "%131", "%132", DLCORE_SUMS64(0), DLCORE_SUMS64(16));
  }
}

#undef DLCORE_WGMMA
#undef DLCORE_NAMES128
#undef DLCORE_NAMES64
#undef DLCORE_NAMES32
#undef DLCORE_SUMS64
#undef DLCORE_SUMS32
#undef DLCORE_SUMS16
#undef DLCORE_SUMS4

DLCORE_END

#endif
