// SPDX-License-Identifier: Apache-2.0
// Update rules: the direction u of one parameter from its scaled gradient g and its state; w -= lr u is the caller's.
// A new rule is a struct with `states` and `direction`, and a line in DLCORE_RULES. The forms are those of torch.optim.
// Mean squares are s + (1 - beta) (g^2 - s): beta s + (1 - beta) g^2 would be biased by the rounding of a beta near 1.
#pragma once
#include "functions.h"

DLCORE_BEGIN

#define DLCORE_RULES(X) X(sgd) X(momentum) X(nesterov) X(adagrad) X(rmsprop) X(adam) X(adamw)

// The numbers of one group at one update.
template <class T>
struct RuleNumbers {
  T momentum;      // or beta1
  T rest1, rest2;  // 1 - beta1, 1 - beta2
  T eps;
  T inverse1, inverse2;  // 1 / correction1, 1 / sqrt(correction2)
};

namespace rules {

struct sgd {
  static constexpr int states = 0;
  template <class T>
  static DLCORE_HD T direction(T g, T&, T&, const RuleNumbers<T>&) {
    return g;
  }
};

struct momentum {
  static constexpr int states = 1;
  template <class T>
  static DLCORE_HD T direction(T g, T& velocity, T&, const RuleNumbers<T>& n) {
    velocity = fma(n.momentum, velocity, g);
    return velocity;
  }
};

struct nesterov {
  static constexpr int states = 1;
  template <class T>
  static DLCORE_HD T direction(T g, T& velocity, T&, const RuleNumbers<T>& n) {
    velocity = fma(n.momentum, velocity, g);
    return fma(n.momentum, velocity, g);
  }
};

struct adagrad {
  static constexpr int states = 1;
  template <class T>
  static DLCORE_HD T direction(T g, T& squares, T&, const RuleNumbers<T>& n) {
    squares = fma(g, g, squares);
    return g / (sqrt(squares) + n.eps);
  }
};

struct rmsprop {
  static constexpr int states = 1;
  template <class T>
  static DLCORE_HD T direction(T g, T& square, T&, const RuleNumbers<T>& n) {
    square = fma(n.rest2, fma(g, g, -square), square);
    return g / (sqrt(square) + n.eps);
  }
};

struct adam {
  static constexpr int states = 2;
  template <class T>
  static DLCORE_HD T direction(T g, T& mean, T& square, const RuleNumbers<T>& n) {
    mean = fma(n.momentum, mean, n.rest1 * g);
    square = fma(n.rest2, fma(g, g, -square), square);
    return mean * n.inverse1 / fma(sqrt(square), n.inverse2, n.eps);
  }
};

// Adam whose group has decoupled decay instead of l2.
struct adamw : adam {};

}  // namespace rules

DLCORE_END
