// SPDX-License-Identifier: Apache-2.0
// Activations f of one element. A new one is a struct with `apply`, `grad` and `from_output`, and a word in
// DLCORE_ACTIVATIONS. c: the constants (slope, alpha) of the stage. grad is f' as a function of f's output where
// from_output is 1, which lets the planner keep the output alone, and else of its input. leaky_relu and elu take that
// from the sign of the output, so c[0] < 0 needs the input. GELU follows Hendrycks and Gimpel (2016).
//
// Largest error in float, in ULP, as in functions.h: elu 1.6, silu 3.2, gelu 6.2, gelu_tanh 3.1. Derivatives: 1.5e-7 in
// absolute terms.
#pragma once
#include "functions.h"

DLCORE_BEGIN

#define DLCORE_ACTIVATIONS(X) \
  X(identity) X(relu) X(leaky_relu) X(elu) X(sigmoid) X(tanh) X(gelu_tanh) X(gelu) X(silu) X(softplus)

#define DLCORE_ENUMERATOR(name) name,
enum class Activation : int32_t { DLCORE_ACTIVATIONS(DLCORE_ENUMERATOR) count };
#undef DLCORE_ENUMERATOR

namespace activations {

struct identity {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return x;
  }
  template <class T>
  static DLCORE_HD T grad(T, const real*) {
    return splat<T>(1);
  }
};

// A NaN is neither above nor below zero and comes through.
template <class T>
DLCORE_HD T by_sign(T x, T above, T below) {
  return select(x > real(0), above, select(x <= real(0), below, x));
}

struct relu {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return max(splat<T>(0), x);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real*) {
    return by_sign(y, splat<T>(1), splat<T>(0));
  }
};

struct leaky_relu {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real* c) {
    return by_sign(x, x, x * c[0]);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real* c) {
    return by_sign(y, splat<T>(1), splat<T>(c[0]));
  }
};

struct elu {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real* c) {
    return select(x > real(0), x, expm1_(x) * c[0]);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real* c) {
    return select(y > real(0), splat<T>(1), y + c[0]);
  }
};

struct sigmoid {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return sigmoid_(x);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real*) {
    return y * (real(1) - y);
  }
};

struct tanh {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return tanh_(x);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real*) {
    return fma(-y, y, splat<T>(1));
  }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation in the left tail, where
// the roundings of 2 u, which count |u| times, are carried along.
struct gelu_tanh {
  static constexpr int from_output = 0;
  static constexpr double linear_exact = 1.5957691216057308, cubic_exact = 0.044715 * linear_exact;
  static constexpr real linear = real(linear_exact), cubic = real(cubic_exact);
  static constexpr real linear_low = real(linear_exact - linear), cubic_low = real(cubic_exact - cubic);
  template <class T>
  static DLCORE_HD T clamped(T x) {
    return min(splat<T>(32), max(splat<T>(-32), x));  // beyond, the result is 0 or x and f' is 0 or 1
  }
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    const T z = clamped(x);
    const Exact<T> square = exact_product(z, z), third = exact_product(splat<T>(cubic), square.high);
    const Exact<T> slope = exact_sum(splat<T>(linear), third.high);
    const T slope_low = slope.low + third.low + (square.low * cubic + (square.high * cubic_low + linear_low));
    const Exact<T> u = exact_product(z, slope.high);
    const T y = times_sigmoid(x, u.high);
    return select(x < real(0), fma(y, fma(z, slope_low, u.low), y), y);
  }
  template <class T>
  static DLCORE_HD T grad(T input, const real*) {
    const T x = clamped(input);
    const T u = x * fma(x * x, splat<T>(cubic), splat<T>(linear)), s = sigmoid_(u);
    const T slope = fma(x * x, splat<T>(3 * cubic), splat<T>(linear));
    return fma(x * slope, s * sigmoid_(-u), s);
  }
};

// x P(Z < x); tail = P(Z > |x|) goes through mills_ so that x < 0 keeps its relative accuracy
struct gelu {
  static constexpr int from_output = 0;
  static constexpr real bound = DLCORE_REAL_F64 ? 39 : 16;  // the tail times |x| underflows before
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    const T z = min(splat<T>(bound), abs(x));
    const T tail = exp_square_times(mills_(z) * select(x < real(0), -z, splat<T>(1)), z, real(0.5));
    return select(x < real(0), tail, x * (real(1) - tail));
  }
  // P(Z < x) + x density(x)
  template <class T>
  static DLCORE_HD T grad(T x, const real*) {
    const T z = min(splat<T>(bound), abs(x));
    const T left = exp_square_times(fma(z, splat<T>(real(-0.39894228040143268)), mills_(z)), z, real(0.5));
    return select(x < real(0), left, real(1) - left);
  }
};

struct silu {
  static constexpr int from_output = 0;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return times_sigmoid(x, x);
  }
  template <class T>
  static DLCORE_HD T grad(T input, const real*) {
    const T x = min(splat<T>(1000), max(splat<T>(-1000), input));
    const T s = sigmoid_(x);
    return fma(x, s * sigmoid_(-x), s);
  }
};

struct softplus {
  static constexpr int from_output = 1;
  template <class T>
  static DLCORE_HD T apply(T x, const real*) {
    return softplus_(x);
  }
  template <class T>
  static DLCORE_HD T grad(T y, const real*) {
    return -expm1_(-y);
  }
};

}  // namespace activations

DLCORE_END
