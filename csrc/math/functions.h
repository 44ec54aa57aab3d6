// SPDX-License-Identifier: Apache-2.0
// Elementary functions for T = real or vec. float: polynomials fitted by minimax for this file, relative error below
// 2^-25.9; double: the C library, lane by lane. NaN comes through; overflow gives inf, underflow rounds once.
//
// Largest error in float against double, in ULP, over 30 million bit patterns (with FMA / without): exp 1.0 / 1.0,
// expm1 1.4 / 1.6, log 0.8 / 0.8, log1p 1.4 / 1.4, tanh 1.7 / 1.7, erf 1.3 / 1.5, erfc 5.8 / 6.5, sigmoid 2.3 / 2.3,
// softplus 1.9 / 1.9.
#pragma once
#include "scalar.h"

DLCORE_BEGIN

constexpr real INF = real(__builtin_huge_val());
constexpr real TINY = real(DLCORE_REAL_F64 ? 2.2250738585072014e-308 : 1.17549435e-38);  // the least normal number

// c[0] x^(N-1) + ... + c[N-1]
template <class T, int N>
DLCORE_HD T polynomial(T x, const real (&c)[N]) {
  T y = splat<T>(c[0]);
  DLCORE_UNROLL(32)
  for (int i = 1; i < N; ++i) y = fma(y, x, splat<T>(c[i]));
  return y;
}

#if DLCORE_REAL_F64

#define DLCORE_LIBRARY(name)                                              \
  template <class T>                                                      \
  DLCORE_HD T name##_(T x) {                                              \
    return Lanes<T>::each([](real v) { return __builtin_##name(v); }, x); \
  }
DLCORE_LIBRARY(exp)
DLCORE_LIBRARY(expm1)
DLCORE_LIBRARY(log)
DLCORE_LIBRARY(log1p)
DLCORE_LIBRARY(tanh)
DLCORE_LIBRARY(erf)
DLCORE_LIBRARY(erfc)
#undef DLCORE_LIBRARY

template <class T>
DLCORE_HD T exp_below_(T x) {
  return exp_(x);
}

// a exp(x), also where exp(x) itself would underflow or overflow.
template <class T>
DLCORE_HD T exp_times(T a, T x) {
  const T root = exp_(x * real(0.5));
  return a * root * root;
}

#else

// x = n log 2 + r with |r| <= log(2) / 2. 1.5 * 2^23 brings the integer into the low bits, 127 more make it the bits of
// an exponent.
template <class T>
struct Exponent {
  typename Lanes<T>::integer n;
  T r;
  T scale;  // 2^n for -126 <= n <= 127, 0 for n = -127
};

constexpr float LOG2_HIGH = 0.693359375f, LOG2_LOW = -2.12194440e-4f;  // n * LOG2_HIGH is exact

template <class T>
DLCORE_HD Exponent<T> split_exponent(T x) {
  constexpr float magic = 12582912.0f + 127;
  const T shifted = fma(x, splat<T>(1.44269504f), splat<T>(magic));
  const T n = shifted - magic;
  const T r = fma(n, splat<T>(-LOG2_LOW), fma(n, splat<T>(-LOG2_HIGH), x));
  return {bits(shifted) - bits(splat<T>(magic)), r, from_bits<T>(Lanes<T>::shift_left(bits(shifted), 23))};
}

// exp(r) - 1, |r| <= log(2) / 2
template <class T>
DLCORE_HD T expm1_reduced(T r) {
  constexpr float c[] = {0.00138403953f, 0.00836934894f, 0.0416680835f, 0.166665152f, 0.49999994f};
  return fma(r * r, polynomial(r, c), r);
}

// 2^n, -126 <= n <= 127
template <class T>
DLCORE_HD T power2(typename Lanes<T>::integer n) {
  return from_bits<T>((n + 127) << 23);
}

// a exp(x), also where exp(x) itself would underflow or overflow: 2^n is applied in two halves.
template <class T>
DLCORE_HD T exp_times(T a, T x) {
  const Exponent<T> e = split_exponent(min(splat<T>(130), max(splat<T>(-150), x)));
  const auto half = e.n >> 1;
  return a * (expm1_reduced(e.r) + 1.0f) * power2<T>(half) * power2<T>(e.n - half);
}

template <class T>
DLCORE_HD T exp_(T x) {
  return exp_times(splat<T>(1), x);
}

// exp(x) for x <= 0, 0 where that is less than 2^-126.5: what a sum with exp(0) does not see.
template <class T>
DLCORE_HD T exp_below_(T x) {
  const Exponent<T> e = split_exponent(max(splat<T>(-88), x));
  return fma(e.scale, expm1_reduced(e.r), e.scale);
}

template <class T>
DLCORE_HD T expm1_(T x) {
  const Exponent<T> e = split_exponent(min(splat<T>(89), max(splat<T>(-20), x)));
  const T half = power2<T>(e.n - 1);
  return fma(half, expm1_reduced(e.r), half - 0.5f) * 2.0f;
}

// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
template <class T>
DLCORE_HD T log_(T x) {
  constexpr float c[] = {0.0534247793f, -0.109171234f, 0.121079549f,  -0.125495657f, 0.142096356f,
                         -0.16659373f,  0.200022221f,  -0.250001669f, 0.333333135f};
  const auto subnormal = x < TINY;
  const auto root_half = bits(splat<T>(0.707106781f));
  const auto i = bits(select(subnormal, x * 8388608.0f, x)) - root_half;
  const T f = from_bits<T>((i & 0x7fffff) + root_half) - 1.0f;
  const T k = Lanes<T>::to_real(i >> 23) - select(subnormal, splat<T>(23), splat<T>(0));
  const T tail = fma(f * f, fma(f, polynomial(f, c), splat<T>(-0.5f)), k * LOG2_LOW);
  const T y = fma(k, splat<T>(LOG2_HIGH), f + tail);
  const T special = select(x == 0.0f, splat<T>(-INF), select(x < 0.0f, splat<T>(__builtin_nanf("")), x));
  return select((x > 0.0f) & (x < INF), y, special);
}

// log(u) + c / u, with u = 1 + x and c what the sum lost
template <class T>
DLCORE_HD T log1p_(T x) {
  const T u = x + 1.0f;
  const T c = select(x < 1.0f, x - (u - 1.0f), 1.0f - (u - x));
  return log_(u) + select((x > -1.0f) & (x < 1e8f), c / u, splat<T>(0));
}

#if defined(__CUDA_ARCH__) || defined(DLCORE_EMULATOR)

// The CPU's form takes two registers more than kernels of chains have (nvcc 13, 9.0). 1.3 ULP.
template <class T>
DLCORE_HD T tanh_(T x) {
  constexpr float c[] = {-0.00569230132f, 0.0206281692f, -0.0537365153f, 0.133314058f, -0.333332807f};
  const T z = abs(x), s = x * x;
  const T near = fma(z * s, polynomial(s, c), z);
  const Exponent<T> e = split_exponent(min(splat<T>(20), z + z));
  const T exponential = fma(e.scale, expm1_reduced(e.r), e.scale);
  return copysign(select(z < 0.625f, near, 1.0f - 2.0f / (exponential + 1.0f)), x);
}

#else

// |x| = n log(2) / 2 + u, and tanh(u) = t is added to (2^n - 1) / (2^n + 1). u in [-0.087, 0.26], which leaves n = 0 up
// to where an ULP of the result is no longer small beside the roundings of numerator and denominator.
template <class T>
DLCORE_HD T tanh_(T x) {
  constexpr float c[] = {-0.0512252785f, 0.133226886f, -0.333332151f}, magic = 12582912.0f;
  const T z = min(splat<T>(10), abs(x));
  const T shifted = fma(z, splat<T>(2.88539008f), splat<T>(-0.25f)) + magic;
  const T u = fma(shifted - magic, splat<T>(-0.346573591f), z), s = u * u;
  const T t = fma(u * s, polynomial(s, c), u);
  const T half = power2<T>(bits(shifted) - bits(splat<T>(magic)) - 1);
  const T y = fma(half + 0.5f, t, half - 0.5f);
  return from_bits<T>(bits(y / (y + (1.0f - t))) | (bits(x) & SIGN_BIT));
}

#endif

#endif

// The rounded result and what the rounding lost.
template <class T>
struct Exact {
  T high, low;
};

// a b, by splitting the factors into halves whose products are exact (Dekker, 1971).
template <class T>
DLCORE_HD Exact<T> exact_product(T a, T b) {
  const integer high_bits = ~integer(DLCORE_REAL_F64 ? 0x7ffffff : 0xfff);
  const T p = a * b, ah = from_bits<T>(bits(a) & high_bits), bh = from_bits<T>(bits(b) & high_bits);
  return {p, ((ah * bh - p) + ah * (b - bh) + (a - ah) * bh) + (a - ah) * (b - bh)};
}

// a + b (Knuth).
template <class T>
DLCORE_HD Exact<T> exact_sum(T a, T b) {
  const T s = a + b, from_b = s - a;
  return {s, (a - (s - from_b)) + (b - from_b)};
}

// a exp(-scale x^2), scale a power of two. The rounding error of x^2 would else be multiplied by x^2 itself.
template <class T>
DLCORE_HD T exp_square_times(T a, T x, real scale) {
  const Exact<T> square = exact_product(x, x);
  return exp_times(fma(a, square.low * -scale, a), square.high * -scale);
}

// exp(x^2) erfc(x), 0 <= x <= 11 (float), 28 (double): smooth in (x - center) / (x + center).
template <class T>
DLCORE_HD T erfcx_(T x) {
#if DLCORE_REAL_F64
  constexpr double center = 4.5;
  constexpr double c[] = {
      -1.7350468511850322e-10, -2.9902199366897661e-09, -3.7476591819801586e-09, 2.8514014546044194e-08,
      1.9331349207687405e-08,  -2.3670436283505475e-07, 1.7892888763387911e-07,  1.6074169355520497e-06,
      -4.841584314242619e-06,  -2.7393810704746948e-06, 5.2983090343716277e-05,  -0.00014249062048288393,
      -2.6845856436771736e-05, 0.0017034199102529495,   -0.0082090201238504603,  0.026198967208443866,
      -0.066140725290390084,   0.14074148035835699,     -0.26052397656833226,    0.427280277488708,
      -0.62812599561474258,    0.83395124208464944,     -1.0049269806415524,     1.1023632384645727};
#else
  constexpr float center = 3;
  constexpr float c[] = {-0.000317588594f, -0.000468646962f, 0.00308256457f, -0.00123476901f, -0.0268425848f,
                         0.119530559f,     -0.310465634f,    0.5902282f,     -0.88339448f,    1.07400692f};
#endif
  const T inverse = real(1) / (x + center);
  return polynomial((x - center) * inverse, c) * inverse;
}

#if !DLCORE_REAL_F64

template <class T>
DLCORE_HD T erfc_(T x) {
  const T z = min(splat<T>(11), abs(x));
  const T y = exp_square_times(erfcx_(z), z, 1);
  return select(x < 0.0f, 2.0f - y, y);
}

template <class T>
DLCORE_HD T erf_(T x) {
  constexpr float c[] = {8.00278212e-05f, -0.000805080461f, 0.00519246049f, -0.0268557407f,
                         0.112836257f,    -0.376126289f,    0.128379166f};
  const T far = copysign(1.0f - erfc_(abs(x)), x);
  return select(abs(x) < 0.95f, fma(x, polynomial(x * x, c), x), far);
}

#endif

// exp(-|x|) never overflows.
template <class T>
DLCORE_HD T sigmoid_(T x) {
  const T e = exp_(-abs(x));
  return select(x < real(0), e, splat<T>(1)) / (e + real(1));
}

// x sigmoid(u), u of the sign of x; x joins the exponential before that underflows
template <class T>
DLCORE_HD T times_sigmoid(T x, T u) {
  const T a = -abs(u);
  return select(x < real(0), exp_times(max(splat<T>(-1000), x), a), x) / (exp_(a) + real(1));
}

// log(1 + exp(x))
template <class T>
DLCORE_HD T softplus_(T x) {
  return max(splat<T>(0), x) + log1p_(exp_(-abs(x)));
}

// Normal distribution: P(Z > z) = mills(z) exp(-z^2 / 2), z >= 0
template <class T>
DLCORE_HD T mills_(T z) {
  return erfcx_(z * real(0.70710678118654752)) * real(0.5);
}

DLCORE_END
