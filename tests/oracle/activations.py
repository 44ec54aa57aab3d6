# SPDX-License-Identifier: Apache-2.0
"""Activations and their derivatives: ``f(x, c)`` and ``df(x, c)`` for finite x, c the activation's constants.

At a kink the derivative is the left one. 1 - s is written s(-x), and 1 + erf as erfc: neither cancels in a tail.
"""

import math

import numpy as np

from .real import float64

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
# Behind |x| = 100 exp(-x^2 / 2) is 0 in float64 and the powers of x could overflow.
_SATURATED = 100.0


def _constant(c, default):
    return float(c[0]) if len(c) else default


def _saturate(x):
    return np.clip(x, -_SATURATED, _SATURATED)


def identity(x, c=()):
    return float64(x) + 0.0


def identity_grad(x, c=()):
    return np.ones_like(float64(x))


def relu(x, c=()):
    return np.maximum(float64(x), 0.0)


def relu_grad(x, c=()):
    return np.where(float64(x) > 0, 1.0, 0.0)


def leaky_relu(x, c=()):
    x = float64(x)
    return np.where(x > 0, x, _constant(c, 0.01) * x)


def leaky_relu_grad(x, c=()):
    return np.where(float64(x) > 0, 1.0, _constant(c, 0.01))


def elu(x, c=()):
    x = float64(x)
    return np.where(x > 0, x, _constant(c, 1.0) * np.expm1(np.minimum(x, 0.0)))


def elu_grad(x, c=()):
    x = float64(x)
    return np.where(x > 0, 1.0, _constant(c, 1.0) * np.exp(np.minimum(x, 0.0)))


def sigmoid(x, c=()):
    x = float64(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def sigmoid_grad(x, c=()):
    x = float64(x)
    return sigmoid(x) * sigmoid(-x)


def tanh(x, c=()):
    return np.tanh(float64(x))


def tanh_grad(x, c=()):
    x = float64(x)
    return 4.0 * sigmoid(2 * x) * sigmoid(-2 * x)


def gelu_tanh(x, c=()):
    """0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    x = float64(x)
    return x * sigmoid(2 * _gelu_tanh_inner(x))


def gelu_tanh_grad(x, c=()):
    x = float64(x)
    u = _gelu_tanh_inner(x)
    bounded = _saturate(x)
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * bounded**2)
    return sigmoid(2 * u) + 2 * bounded * du * sigmoid(2 * u) * sigmoid(-2 * u)


def _gelu_tanh_inner(x):
    x = _saturate(x)
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def gelu(x, c=()):
    """x Phi(x), Phi(x) = erfc(-x / sqrt(2)) / 2."""
    x = float64(x)
    return 0.5 * x * _erfc(-x / math.sqrt(2))


def gelu_grad(x, c=()):
    """Phi(x) + x phi(x)."""
    x = float64(x)
    bounded = _saturate(x)
    density = np.exp(-0.5 * bounded**2) / math.sqrt(2 * math.pi)
    return 0.5 * _erfc(-x / math.sqrt(2)) + bounded * density


def silu(x, c=()):
    x = float64(x)
    return x * sigmoid(x)


def silu_grad(x, c=()):
    x = float64(x)
    return sigmoid(x) * (1 + x * sigmoid(-x))


def softplus(x, c=()):
    """log(1 + exp(x)), exact at any x (PyTorch switches to x above 20)."""
    return np.logaddexp(0.0, float64(x))


def softplus_grad(x, c=()):
    return sigmoid(x)


ACTIVATIONS = {
    "identity": (identity, identity_grad),
    "relu": (relu, relu_grad),
    "leaky_relu": (leaky_relu, leaky_relu_grad),
    "elu": (elu, elu_grad),
    "sigmoid": (sigmoid, sigmoid_grad),
    "tanh": (tanh, tanh_grad),
    "gelu_tanh": (gelu_tanh, gelu_tanh_grad),
    "gelu": (gelu, gelu_grad),
    "silu": (silu, silu_grad),
    "softplus": (softplus, softplus_grad),
}
