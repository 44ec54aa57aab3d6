// SPDX-License-Identifier: Apache-2.0
// Losses of one element: prediction p, target t. A new loss is a struct with `value`, `grad` (with respect to p) and,
// when it classifies, `correct`; and a line in DLCORE_LOSSES. Reductions and weights belong to the kernel.
#pragma once
#include "functions.h"

DLCORE_BEGIN

#define DLCORE_LOSSES(X) X(squared_error) X(binary_cross_entropy)

namespace losses {

// w0, w1: weights of the targets 0 and 1; a loss that does not classify ignores them.
struct squared_error {
  static constexpr bool classifies = false;
  template <class T>
  static DLCORE_HD T value(T p, T t, T, T) {
    return (p - t) * (p - t);
  }
  template <class T>
  static DLCORE_HD T grad(T p, T t, T, T) {
    return (p - t) * real(2);
  }
};

// p is a logit, t a probability: w1 t softplus(-p) + w0 (1 - t) softplus(p), w1 / w0 is PyTorch's pos_weight.
struct binary_cross_entropy {
  static constexpr bool classifies = true;
  template <class T>
  static DLCORE_HD T value(T p, T t, T w0, T w1) {
    const T zero = splat<T>(0), tail = log1p_(exp_(-abs(p)));
    return fma(w1 * t, max(zero, -p) + tail, w0 * (real(1) - t) * (max(zero, p) + tail));
  }
  template <class T>
  static DLCORE_HD T grad(T p, T t, T w0, T w1) {
    return fma(-(w1 * t), sigmoid_(-p), w0 * (real(1) - t) * sigmoid_(p));
  }
  template <class T>
  static DLCORE_HD typename Lanes<T>::mask correct(T p, T t) {
    return (p > real(0)) == (t > real(0.5));
  }
};

}  // namespace losses

DLCORE_END
