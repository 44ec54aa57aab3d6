// SPDX-License-Identifier: Apache-2.0
// The matrix unit: eight tiles of 16 rows by 64 bytes. Tiles 0 to 3 are sums (16, 16), 4 and 5 hold words of A, 6 and 7
// words of B; the member functions are all that a product needs of it.
//
// A dot is what Intel's manual says of TDPBF16PS: the first and the second bf16 of the words are summed apart, 16
// fused multiply-adds each from zero, then their sum is added to the tile; denormals count as zero.
#pragma once
#include "planes.h"

DLCORE_BEGIN

#if DLCORE_UNIT_AMX

struct TileConfiguration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfiguration) == 64, "");

// Static, because a compiler that believes _tile_loadconfig reads 8 bytes would leave out the stores of the others.
alignas(64) static const TileConfiguration TILES = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// The calling thread's tiles, between begin and end; a destructor would bring the tables of exceptions.
struct MatrixUnit {
  void begin() { __asm__ volatile("ldtilecfg %0" : : "m"(TILES) : "memory"); }
  void end() { __asm__ volatile("tilerelease" : : : "memory"); }

  template <int sum>
  void clear() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(sum));
  }
  template <int tile>
  void load_words(const real* from) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(SIDE * sizeof(real)), "i"(tile) : "memory");
  }
  template <int sum, int a, int b>
  void dot() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
  }
  template <int sum>
  void store_sums(real* c, int64_t ldc) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(c), "r"(ldc * sizeof(real)), "i"(sum) : "memory");
  }
};

#else

// The stand-in. Sums below the smallest normal number stay, where the unit makes them zero.
struct MatrixUnit {
  real sums[4][SIDE][SIDE];
  const real* words[8];

  void begin() {}
  void end() {}

  template <int sum>
  void clear() {
    __builtin_memset(sums[sum], 0, sizeof sums[sum]);
  }
  template <int tile>
  void load_words(const real* from) {
    words[tile] = from;
  }
  template <int sum, int a, int b>
  void dot() {
    for (int64_t r = 0; r < SIDE; ++r) {
      for (int64_t c = 0; c < SIDE; c += LANES) {
        vec first = {}, second = {};
        for (int64_t k = 0; k < SIDE; ++k) {
          integer x;
          __builtin_memcpy(&x, words[a] + r * SIDE + k, sizeof x);
          const ivec y = bits(load(words[b] + k * SIDE + c));
          first += from_bits<vec>((ivec{} + x) << 16) * from_bits<vec>(y << 16);
          second += from_bits<vec>((ivec{} + x) & ~0xffff) * from_bits<vec>(y & ~0xffff);
        }
        store(sums[sum][r] + c, load(sums[sum][r] + c) + (first + second));
      }
    }
  }
  template <int sum>
  void store_sums(real* c, int64_t ldc) {
    for (int64_t r = 0; r < SIDE; ++r) __builtin_memcpy(c + r * ldc, sums[sum][r], sizeof sums[sum][r]);
  }
};

#endif

DLCORE_END
