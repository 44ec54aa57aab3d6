// SPDX-License-Identifier: Apache-2.0
// The primitives that formulas are written in, for one real. A formula is a template over T and calls these names;
// Lanes<T> says what each means, so that the same formula runs on a vector (cpu/simd.h) with equal bits in every lane.
#pragma once
#include "portable.h"

DLCORE_BEGIN

#if DLCORE_REAL_F64
typedef int64_t integer;  // of the width of real
#else
typedef int32_t integer;
#endif

template <class T>
struct Lanes;

template <>
struct Lanes<real> {
  typedef real type;
  typedef bool mask;
  typedef dlcore::DLCORE_FOLDER::DLCORE_ISA::integer integer;

  static DLCORE_HD real splat(real x) { return x; }
  static DLCORE_HD real fma(real a, real b, real c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__) || defined(DLCORE_EMULATOR)
    return sizeof(real) == 4 ? real(__builtin_fmaf(a, b, c)) : real(__builtin_fma(a, b, c));
#else
    return a * b + c;
#endif
  }
  static DLCORE_HD real max(real a, real b) { return a > b ? a : b; }
  static DLCORE_HD real min(real a, real b) { return a < b ? a : b; }
  static DLCORE_HD real sqrt(real x) { return sizeof(real) == 4 ? real(__builtin_sqrtf(x)) : real(__builtin_sqrt(x)); }
  static DLCORE_HD real select(bool m, real a, real b) { return m ? a : b; }
  static DLCORE_HD integer bits(real x) {
    integer i;
    __builtin_memcpy(&i, &x, sizeof i);
    return i;
  }
  static DLCORE_HD real from_bits(integer i) {
    real x;
    __builtin_memcpy(&x, &i, sizeof x);
    return x;
  }
  static DLCORE_HD real to_real(integer i) { return real(i); }
  // What is shifted out is lost.
  static DLCORE_HD integer shift_left(integer i, int n) { return integer(uint64_t(i) << n); }
  // f of a function of the C library, lane by lane
  template <class F>
  static DLCORE_HD real each(F f, real x) {
    return f(x);
  }
};

template <class T>
DLCORE_HD T splat(real x) {
  return Lanes<T>::splat(x);
}

// a * b + c: rounded once where the instruction set has it
template <class T>
DLCORE_HD typename Lanes<T>::type fma(T a, T b, T c) {
  return Lanes<T>::fma(a, b, c);
}

// a > b ? a : b, so a NaN in b comes through: write max(bound, x)
template <class T>
DLCORE_HD typename Lanes<T>::type max(T a, T b) {
  return Lanes<T>::max(a, b);
}

// a < b ? a : b, so a NaN in b comes through: write min(bound, x)
template <class T>
DLCORE_HD typename Lanes<T>::type min(T a, T b) {
  return Lanes<T>::min(a, b);
}

template <class T>
DLCORE_HD typename Lanes<T>::type sqrt(T x) {
  return Lanes<T>::sqrt(x);
}

template <class T>
DLCORE_HD typename Lanes<T>::type select(typename Lanes<T>::mask m, T a, T b) {
  return Lanes<T>::select(m, a, b);
}

template <class T>
DLCORE_HD typename Lanes<T>::integer bits(T x) {
  return Lanes<T>::bits(x);
}

template <class T>
DLCORE_HD T from_bits(typename Lanes<T>::integer i) {
  return Lanes<T>::from_bits(i);
}

constexpr integer SIGN_BIT = integer(1) << (8 * sizeof(integer) - 2) << 1;

template <class T>
DLCORE_HD typename Lanes<T>::type abs(T x) {
  return from_bits<T>(bits(x) & ~SIGN_BIT);
}

// |x| with the sign of s
template <class T>
DLCORE_HD typename Lanes<T>::type copysign(T x, T s) {
  return from_bits<T>((bits(x) & ~SIGN_BIT) | (bits(s) & SIGN_BIT));
}

DLCORE_HD int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
DLCORE_HD int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
DLCORE_HD int64_t ceil_div(int64_t n, int64_t m) { return (n + m - 1) / m; }
DLCORE_HD int64_t round_up(int64_t n, int64_t m) { return ceil_div(n, m) * m; }

DLCORE_END
