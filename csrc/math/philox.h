// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) and the draws of dropout.
//
// counter = (column / 8, row, random op, draws), key = seed: a mask is a function of where the element lies, and can be
// drawn again. Four words of 32 bits are eight draws of 16: column j of eight takes half j % 2 (0: low) of word j / 2.
#pragma once
#include "portable.h"

DLCORE_BEGIN

// T holds words of 32 bits in the low halves of 64-bit lanes (uint64_t, or a vector of them); the high halves are
// whatever multiplication left there.
template <class T>
struct Words;

template <>
struct Words<uint64_t> {
  static DLCORE_HD uint64_t splat(uint32_t x) { return x; }
  static DLCORE_HD uint64_t multiply(uint64_t a, uint64_t b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
};

constexpr int PHILOX_ROUNDS = 10;

template <class T>
struct PhiloxKey {
  T rounds[PHILOX_ROUNDS][2];
};

template <class T>
DLCORE_HD PhiloxKey<T> philox_key(uint64_t seed) {
  PhiloxKey<T> key;
  uint32_t low = uint32_t(seed), high = uint32_t(seed >> 32);
  for (int i = 0; i < PHILOX_ROUNDS; ++i, low += 0x9E3779B9u, high += 0xBB67AE85u) {
    key.rounds[i][0] = Words<T>::splat(low);
    key.rounds[i][1] = Words<T>::splat(high);
  }
  return key;
}

// N counters side by side, in place: one alone would wait for its multiplications.
template <class T, int N>
DLCORE_HD void philox(const PhiloxKey<T>& key, T (&x)[N][4]) {
  const T m0 = Words<T>::splat(0xD2511F53u), m1 = Words<T>::splat(0xCD9E8D57u);
  DLCORE_UNROLL(10)
  for (int i = 0; i < PHILOX_ROUNDS; ++i) {
    DLCORE_UNROLL(4)
    for (int n = 0; n < N; ++n) {
      const T p0 = Words<T>::multiply(x[n][0], m0), p1 = Words<T>::multiply(x[n][2], m1);
      x[n][0] = (p1 >> 32) ^ x[n][1] ^ key.rounds[i][0];
      x[n][1] = p1;
      x[n][2] = (p0 >> 32) ^ x[n][3] ^ key.rounds[i][1];
      x[n][3] = p0;
    }
  }
}

// Elements whose draw is below are kept: at least one of 65536, so that the scale is finite.
DLCORE_HD uint32_t dropout_threshold(double probability) {
  const double kept = (1 - probability) * 65536 + 0.5;
  return kept < 1 ? 1 : kept > 65536 ? 65536 : uint32_t(kept);
}

// One over the probability as it was rounded: the mean is exact.
DLCORE_HD real dropout_scale(uint32_t threshold) { return real(65536.0 / threshold); }

DLCORE_HD uint32_t dropout_draw(uint64_t seed, uint32_t draws, uint32_t random_op, uint32_t row, uint32_t column) {
  uint64_t x[1][4] = {{column / 8, row, random_op, draws}};
  philox(philox_key<uint64_t>(seed), x);
  return uint32_t(x[0][column % 8 / 2] >> (column % 2 * 16)) & 0xffff;
}

DLCORE_END
