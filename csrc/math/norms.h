// SPDX-License-Identifier: Apache-2.0
// Normalisation as formulas of one column (batch norm) or one element (layer norm).
#pragma once
#include "scalar.h"

DLCORE_BEGIN

template <class T>
DLCORE_HD T reciprocal_deviation(T variance, T eps) {
  return real(1) / sqrt(variance + eps);
}

// gamma (x - mean) rstd + beta = x scale + shift
template <class T>
struct Affine {
  T scale, shift;
};

template <class T>
DLCORE_HD Affine<T> normalisation(T gamma, T beta, T mean, T rstd) {
  const T scale = gamma * rstd;
  return {scale, fma(-mean, scale, beta)};
}

// dz = a g + b z + c, from the sums over rows of g and of g xhat divided by the rows.
template <class T>
struct NormGrad {
  T a, b, c;
};

template <class T>
DLCORE_HD NormGrad<T> norm_grad(T gamma, T mean, T rstd, T mean_g, T mean_g_xhat) {
  const T a = gamma * rstd;
  const T b = -a * rstd * mean_g_xhat;
  return {a, b, -fma(b, mean, a * mean_g)};
}

// One element of a row: dx from g = dy gamma and the row's means of g and g xhat.
template <class T>
DLCORE_HD T row_norm_grad(T g, T xhat, T rstd, T mean_g, T mean_g_xhat) {
  return rstd * (fma(-xhat, mean_g_xhat, g) - mean_g);
}

DLCORE_END
