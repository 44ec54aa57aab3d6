// SPDX-License-Identifier: Apache-2.0
// One vector of reals: GCC and Clang vector extensions, with an intrinsic where the language has no operator.
//
// vec has + - * / and comparisons (which give an ivec of 0 and -1); x[i] is a lane. All lanes go through the same
// instructions, so an element's value never depends on where it lies: loops take whole vectors, with a partial load
// and store at the edge, and have no scalar tail.
#pragma once
#include "../math/scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

DLCORE_BEGIN

#if defined(__AVX512F__)
constexpr int64_t VECTOR_BYTES = 64;
#define DLCORE_MM_(name, type) _mm512_##name##_##type
#elif defined(__AVX2__)
constexpr int64_t VECTOR_BYTES = 32;
#define DLCORE_MM_(name, type) _mm256_##name##_##type
#else
constexpr int64_t VECTOR_BYTES = 16;
#define DLCORE_MM_(name, type) _mm_##name##_##type
#endif
#if DLCORE_REAL_F64
#define DLCORE_MM(name) DLCORE_MM_(name, pd)
#else
#define DLCORE_MM(name) DLCORE_MM_(name, ps)
#endif

constexpr int64_t LANES = VECTOR_BYTES / int64_t(sizeof(real));

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef decltype(vec{} < vec{}) ivec;  // integers of the width of real; also the masks

inline vec load(const real* p) {
  vec x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

inline void store(real* p, vec x) { __builtin_memcpy(p, &x, sizeof x); }

inline vec splat(real x) { return x - vec{}; }

template <>
struct Lanes<vec> {
  typedef vec type;
  typedef ivec mask;
  typedef ivec integer;

  static inline vec splat(real x) { return x - vec{}; }
  static inline vec fma(vec a, vec b, vec c) {
#if defined(__FMA__)
    return DLCORE_MM(fmadd)(a, b, c);
#elif defined(__ARM_FEATURE_FMA) && DLCORE_REAL_F64
    return vfmaq_f64(c, a, b);
#elif defined(__ARM_FEATURE_FMA)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
  }
#if defined(__AVX512F__)  // with masks, as the headers of gcc 12 warn about the plain ones
  static inline vec max(vec a, vec b) { return DLCORE_MM(mask_max)(a, -1, a, b); }
  static inline vec min(vec a, vec b) { return DLCORE_MM(mask_min)(a, -1, a, b); }
  static inline vec sqrt(vec x) { return DLCORE_MM(mask_sqrt)(x, -1, x); }
#elif defined(__x86_64__)  // the instructions are a > b ? a : b and a < b ? a : b, NaN and zeros included
  static inline vec max(vec a, vec b) { return DLCORE_MM(max)(a, b); }
  static inline vec min(vec a, vec b) { return DLCORE_MM(min)(a, b); }
  static inline vec sqrt(vec x) { return DLCORE_MM(sqrt)(x); }
#else
  static inline vec max(vec a, vec b) { return a > b ? a : b; }
  static inline vec min(vec a, vec b) { return a < b ? a : b; }
  static inline vec sqrt(vec x) { return each(Lanes<real>::sqrt, x); }
#endif
  static inline vec select(ivec m, vec a, vec b) { return m ? a : b; }
  static inline ivec bits(vec x) { return (ivec)x; }
  static inline vec from_bits(ivec i) { return (vec)i; }
  static inline vec to_real(ivec i) { return __builtin_convertvector(i, vec); }
  static inline ivec shift_left(ivec i, int n) { return i << n; }
  template <class F>
  static inline vec each(F f, vec x) {
    vec y;
    for (int64_t i = 0; i < LANES; ++i) y[i] = f(x[i]);
    return y;
  }
};

// 0, 1, 2 ...
inline ivec lane_numbers() {
  ivec i;
  for (int64_t k = 0; k < LANES; ++k) i[k] = integer(k);
  return i;
}

// The first n lanes, 0 <= n <= LANES; the others read as 0.
inline vec load_partial(const real* p, int64_t n) {
#if defined(__AVX512F__)
  return DLCORE_MM(maskz_loadu)((1u << n) - 1, p);
#elif defined(__AVX2__)
  return DLCORE_MM(maskload)(p, (__m256i)(lane_numbers() < integer(n)));
#else
  vec x = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return x;
#endif
}

template <int64_t N>
struct VectorOf {
  typedef real type __attribute__((vector_size(N * sizeof(real))));
};

// gcc 12 goes through memory, lane by lane, where it is to find them among 16.
template <int64_t N>
struct Halves {
  typename VectorOf<N / 2>::type low, high;

  explicit Halves(typename VectorOf<N>::type x) {
    __builtin_memcpy(&low, &x, sizeof low);
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
  }
};

template <int64_t N>
inline void store_first(real* p, typename VectorOf<N>::type x, int64_t n) {
  if constexpr (N == 1) {
    if (n > 0) *p = x[0];
  } else {
    const Halves<N> halves(x);
    if (n < N / 2) return store_first<N / 2>(p, halves.low, n);
    __builtin_memcpy(p, &halves.low, sizeof halves.low);
    store_first<N / 2>(p + N / 2, halves.high, n - N / 2);
  }
}

// By halves: AVX2's own store under a mask takes 4.5 ns on an EPYC, this 0.7.
inline void store_partial(real* p, vec x, int64_t n) {
#if defined(__AVX512F__)
  DLCORE_MM(mask_storeu)(p, (1u << n) - 1, x);
#else
  store_first<LANES>(p, x, n);
#endif
}

// A bit for each lane of a mask of 0 and -1, that of lane 0 the lowest; and the mask of such bits.
inline uint32_t bits_of(ivec mask) {
#if defined(__AVX512F__) && DLCORE_REAL_F64
  return _mm512_movepi64_mask((__m512i)mask);
#elif defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__x86_64__)
  return uint32_t(DLCORE_MM(movemask)((vec)mask));
#else
  uint32_t bits = 0;
  for (int64_t i = 0; i < LANES; ++i) bits |= uint32_t(mask[i] & 1) << i;
  return bits;
#endif
}

inline ivec mask_of(uint32_t bits) {
  ivec own;
  for (int64_t i = 0; i < LANES; ++i) own[i] = integer(1) << i;
  return ((ivec{} + integer(bits)) & own) != 0;
}

// Lanes combined in halves: one order, the same for every caller of this instruction set.
template <int64_t N, class F>
inline real reduce(typename VectorOf<N>::type x, F combine) {
  if constexpr (N == 2) {
    return combine(x[0], x[1]);
  } else if constexpr (N == 4) {
    return combine(combine(x[0], x[2]), combine(x[1], x[3]));
  } else {
    const Halves<N> halves(x);
    return reduce<N / 2>(combine(halves.low, halves.high), combine);
  }
}

inline real reduce_add(vec x) {
  return reduce<LANES>(x, [](auto a, auto b) { return a + b; });
}

inline real reduce_max(vec x) {
  return reduce<LANES>(x, [](auto a, auto b) { return a > b ? a : b; });
}

DLCORE_END
