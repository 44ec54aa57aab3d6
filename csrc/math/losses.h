// SPDX-License-Identifier: Apache-2.0
// Losses of one element: prediction p, target t. A new loss is a struct with `value`, `grad` (with respect to p) and,
// when it classifies, `correct`; and a line in DLCORE_LOSSES. Reductions and weights belong to the kernel.
#pragma once
#include "functions.h"

DLCORE_BEGIN

#define DLCORE_LOSSES(X) X(squared_error) X(binary_cross_entropy)

namespace losses {

struct squared_error {
  static constexpr bool classifies = false;
  template <class T>
  static DLCORE_HD T value(T p, T t) {
    return (p - t) * (p - t);
  }
  template <class T>
  static DLCORE_HD T grad(T p, T t) {
    return (p - t) * real(2);
  }
};

// p is a logit, t a probability: max(p, 0) - p t + log(1 + exp(-|p|)).
struct binary_cross_entropy {
  static constexpr bool classifies = true;
  template <class T>
  static DLCORE_HD T value(T p, T t) {
    return fma(-p, t, max(splat<T>(0), p)) + log1p_(exp_(-abs(p)));
  }
  template <class T>
  static DLCORE_HD T grad(T p, T t) {
    return sigmoid_(p) - t;
  }
  template <class T>
  static DLCORE_HD typename Lanes<T>::mask correct(T p, T t) {
    return (p > real(0)) == (t > real(0.5));
  }
};

}  // namespace losses

DLCORE_END
