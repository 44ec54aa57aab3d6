# SPDX-License-Identifier: Apache-2.0
"""Update rules over a flat array, and a whole training step of a plain MLP, as one writes them in NumPy.

Buffers are made once. In float32 a contestant, in float64 the truth. The workers of bench/peers.py use it too.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from .plain import cross_entropy, squared_error

STATES = {"sgd": 0, "momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
LOSSES = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def numbers(rule: str, lr: float, update: int) -> SimpleNamespace:
    """What update number ``update`` (from 0) of a rule takes, PyTorch's defaults, momentum 0.9."""
    beta2 = 0.99 if rule == "rmsprop" else 0.999
    return SimpleNamespace(
        lr=lr, momentum=0.9, beta2=beta2, eps=1e-10 if rule == "adagrad" else 1e-8, decay=0.01 * (rule == "adamw"),
        correction1=1 - 0.9 ** (update + 1), correction2=1 - beta2 ** (update + 1),
    )  # fmt: skip


class Update:
    """One rule over arrays of one shape; called with its `numbers`."""

    def __init__(self, rule: str, w, g, states):
        self.w, self.g, self.s = w, g, states
        self.t, self.u = np.empty_like(w), np.empty_like(w)
        self.rule = getattr(self, "_" + rule)

    def __call__(self, h: SimpleNamespace) -> None:
        if h.decay:
            self.w *= 1 - h.lr * h.decay
        u = self.rule(h)
        np.multiply(u, h.lr, out=self.t)
        self.w -= self.t

    def _sgd(self, h):
        return self.g

    def _momentum(self, h):
        self.s[0] *= h.momentum
        self.s[0] += self.g
        return self.s[0]

    def _nesterov(self, h):
        np.multiply(self._momentum(h), h.momentum, out=self.u)
        self.u += self.g
        return self.u

    def _adagrad(self, h):
        np.multiply(self.g, self.g, out=self.t)
        self.s[0] += self.t
        return self._normalised(self.g, self.s[0], h.eps)

    def _rmsprop(self, h):
        self._average(self.s[0], self.g, self.g, 1 - h.beta2)
        return self._normalised(self.g, self.s[0], h.eps)

    def _adam(self, h):
        self.s[0] *= h.momentum
        np.multiply(self.g, 1 - h.momentum, out=self.t)
        self.s[0] += self.t
        self._average(self.s[1], self.g, self.g, 1 - h.beta2)
        root = math.sqrt(h.correction2)
        self._normalised(self.s[0], self.s[1], h.eps * root)
        self.u *= root / h.correction1
        return self.u

    _adamw = _adam

    def _average(self, state, a, b, weight):
        """state += weight (a b - state)"""
        np.multiply(a, b, out=self.t)
        self.t -= state
        self.t *= weight
        state += self.t

    def _normalised(self, a, square, eps):
        """a / (sqrt(square) + eps)"""
        np.sqrt(square, out=self.u)
        self.u += eps
        np.divide(a, self.u, out=self.u)
        return self.u


def supports(workload) -> bool:
    """Plain MLPs: linear layers with ReLU or tanh between them."""
    return all(layer[0] in ("linear", "relu", "tanh") for layer in workload.layers)


class PlainStep:
    """A training step: forward, loss, backward, update.

    Parameters
    ----------
    workload : Workload
    parameters : list of ndarray
        Weights (inputs, outputs) and biases in layer order.
    x, y : ndarray
    lr : float
    dtype : str
    """

    def __init__(self, workload, parameters, x, y, lr: float, dtype: str = "float32"):
        self.rule, self.lr, self.updates = workload.optimizer, lr, 0
        self.loss_and_gradient = LOSSES[workload.loss]
        self.act = next(layer[0] for layer in workload.layers if layer[0] != "linear")
        self.x, self.y = x.astype(dtype), y if y.dtype.kind in "iu" else y.astype(dtype)
        size = sum(p.size for p in parameters)
        self.w, self.g = np.concatenate([p.ravel() for p in parameters]).astype(dtype), np.zeros(size, dtype)
        self.p, self.dp = (self._split(a, parameters) for a in (self.w, self.g))
        states = [np.zeros(size, dtype) for _ in range(STATES[workload.optimizer])]
        self.update = Update(workload.optimizer, self.w, self.g, states)
        self.h = [np.empty((len(x), p.shape[1]), dtype) for p in parameters[::2]]
        self.d = [np.empty_like(h) for h in self.h]

    @staticmethod
    def _split(flat, parameters) -> list[np.ndarray]:
        ends = np.cumsum([p.size for p in parameters])
        return [flat[e - p.size : e].reshape(p.shape) for e, p in zip(ends, parameters, strict=True)]

    def step(self) -> float:
        """One step; the mean loss before it."""
        h = self.forward()
        rows = len(self.x)
        loss = self.loss_and_gradient(h, self.y, self.d[-1]) / rows
        self.d[-1] *= 1 / rows
        self._backward()
        self.update(numbers(self.rule, self.lr, self.updates))
        self.updates += 1
        return float(loss)

    def forward(self) -> np.ndarray:
        """The outputs."""
        x = self.x
        for i, h in enumerate(self.h):
            np.matmul(x, self.p[2 * i], out=h)
            h += self.p[2 * i + 1]
            if i + 1 < len(self.h):
                np.maximum(h, 0, out=h) if self.act == "relu" else np.tanh(h, out=h)
            x = h
        return x

    def _backward(self) -> None:
        for i in range(len(self.h) - 1, -1, -1):
            h, d = self.h[i], self.d[i]
            if i + 1 < len(self.h):
                d *= h > 0 if self.act == "relu" else 1 - h * h
            np.matmul((self.h[i - 1] if i else self.x).T, d, out=self.dp[2 * i])
            d.sum(axis=0, out=self.dp[2 * i + 1])
            if i:
                np.matmul(d, self.p[2 * i].T, out=self.d[i - 1])
