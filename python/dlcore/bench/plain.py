# SPDX-License-Identifier: Apache-2.0
"""The ops as one writes them in NumPy, with the buffers made once: in float32 a contestant, in float64 the truth;
and how far from the truth rounding leads.

`kept` (of dropout) and `active` (of ReLU) are masks. Timed, a class draws and finds them itself; as the truth it is
given those of the result that it judges, because two right results may round to either side of a kink.
"""

from __future__ import annotations

import math

import numpy as np

EPS = 1e-5
# A sum of n roundings errs by about sqrt(n) u; four times that is far out. A few units for short sums and functions.
FACTOR, SHORTEST = 4.0, 16
UNIT = float(np.finfo(np.float32).eps) / 2


def error(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference as a share of the largest element."""
    largest = float(np.abs(want).max())
    return float(np.abs(got.reshape(want.shape) - want).max()) / (largest or 1.0)


def tolerance(depth: int, unit: float = UNIT) -> float:
    """The largest relative error that rounding explains in a sum of so many terms."""
    return FACTOR * math.sqrt(max(depth, SHORTEST)) * unit


class Plain:
    """Inputs x and dy (rows, cols) and parameters by path, all of the dtype to compute in.

    Subclasses fill ``y`` in `forward`, and ``dx`` and ``gradients`` in `backward`.
    """

    def __init__(self, x, dy, parameters: dict[str, np.ndarray]):
        self.x, self.dy, self.p = x, dy, parameters
        self.kept = self.active = None
        self.y, self.dx = np.empty_like(dy), np.empty_like(x)
        self.gradients: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def results(self, part: str) -> dict[str, np.ndarray]:
        return {"y": self.y} if part == "forward" else {"dx": self.dx, **self.gradients}

    def depth(self, part: str) -> int:
        """Length of the longest sum on the way to a result."""
        return max(self.x.shape)

    def mask(self, p: float) -> np.ndarray:
        return self.rng.random(self.x.shape, np.float32) >= p if self.kept is None else self.kept


class Linear(Plain):
    """y = x W."""

    def forward(self):
        np.matmul(self.x, self.p["weight"], out=self.y)

    def backward(self):
        self.gradients["weight"] = self.x.T @ self.dy
        np.matmul(self.dy, self.p["weight"].T, out=self.dx)


class LinearRelu(Plain):
    """y = max(x W + b, 0)."""

    def forward(self):
        np.matmul(self.x, self.p["0.weight"], out=self.y)
        self.y += self.p["0.bias"]
        np.maximum(self.y, 0, out=self.y)

    def backward(self):
        dz = self.dy * (self.y > 0 if self.active is None else self.active)
        self.gradients = {"0.weight": self.x.T @ dz, "0.bias": dz.sum(axis=0)}
        np.matmul(dz, self.p["0.weight"].T, out=self.dx)


class NormReluDropout(Plain):
    """Batch normalisation, ReLU and inverted dropout."""

    p_drop = 0.5

    def __init__(self, x, dy, parameters):
        super().__init__(x, dy, parameters)
        self.normal = np.empty_like(x)

    def forward(self):
        np.subtract(self.x, self.x.mean(axis=0), out=self.normal)
        np.multiply(self.normal, self.normal, out=self.y)
        self.rstd = 1 / np.sqrt(self.y.mean(axis=0) + EPS)
        self.normal *= self.rstd
        np.multiply(self.normal, self.p["0.weight"], out=self.y)
        self.y += self.p["0.bias"]
        np.maximum(self.y, 0, out=self.y)
        self.y *= self.mask(self.p_drop)
        self.y *= 1 / (1 - self.p_drop)

    def backward(self):
        dz = self.dy * (self.y > 0 if self.active is None else self.active)
        dz *= 1 / (1 - self.p_drop)
        np.multiply(dz, self.normal, out=self.dx)
        self.gradients = {"0.weight": self.dx.sum(axis=0), "0.bias": dz.sum(axis=0)}
        np.multiply(self.normal, self.gradients["0.weight"] / len(dz), out=self.dx)
        np.subtract(dz, self.dx, out=self.dx)
        self.dx -= self.gradients["0.bias"] / len(dz)
        self.dx *= self.p["0.weight"] * self.rstd


class LinearNormReluDropout(Plain):
    """x W, then batch normalisation, ReLU and dropout."""

    p_drop = NormReluDropout.p_drop

    def __init__(self, x, dy, parameters):
        super().__init__(x, dy, parameters)
        norm = {"0.weight": parameters["1.weight"], "0.bias": parameters["1.bias"]}
        self.block = NormReluDropout(np.empty_like(dy), dy, norm)

    def forward(self):
        np.matmul(self.x, self.p["0.weight"], out=self.block.x)
        self.block.kept, self.block.active = self.kept, self.active
        self.block.forward()
        self.y = self.block.y

    def backward(self):
        self.block.active = self.active
        self.block.backward()
        dz, sums = self.block.dx, self.block.gradients
        self.gradients = {"0.weight": self.x.T @ dz, "1.weight": sums["0.weight"], "1.bias": sums["0.bias"]}
        np.matmul(dz, self.p["0.weight"].T, out=self.dx)


class LayerNorm(Plain):
    """(x - mean) * rstd * weight + bias over each row."""

    def __init__(self, x, dy, parameters):
        super().__init__(x, dy, parameters)
        self.normal = np.empty_like(x)

    def forward(self):
        np.subtract(self.x, self.x.mean(axis=1, keepdims=True), out=self.normal)
        np.multiply(self.normal, self.normal, out=self.y)
        self.rstd = 1 / np.sqrt(self.y.mean(axis=1, keepdims=True) + EPS)
        self.normal *= self.rstd
        np.multiply(self.normal, self.p["weight"], out=self.y)
        self.y += self.p["bias"]

    def backward(self):
        np.multiply(self.dy, self.normal, out=self.dx)
        self.gradients = {"weight": self.dx.sum(axis=0), "bias": self.dy.sum(axis=0)}
        g = self.dy * self.p["weight"]
        np.multiply(g, self.normal, out=self.dx)
        np.multiply(self.normal, self.dx.mean(axis=1, keepdims=True), out=self.dx)
        np.subtract(g, self.dx, out=self.dx)
        self.dx -= g.mean(axis=1, keepdims=True)
        self.dx *= self.rstd


class Dropout(Plain):
    """Each element is kept with probability 1 - p and divided by it."""

    p_drop = 0.5

    def forward(self):
        self.last = self.mask(self.p_drop)
        np.multiply(self.x, self.last, out=self.y)
        self.y *= 1 / (1 - self.p_drop)

    def backward(self):
        np.multiply(self.dy, self.last, out=self.dx)
        self.dx *= 1 / (1 - self.p_drop)

    def depth(self, part):
        return 1


def cross_entropy(logits, target, out) -> float:
    """The summed loss over rows; ``out`` receives its gradient, softmax - onehot."""
    rows = np.arange(len(logits))
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    chosen = out[rows, target]
    np.exp(out, out=out)
    total = out.sum(axis=1)
    out /= total[:, None]
    out[rows, target] -= 1
    return (np.log(total) - chosen).sum()


class CrossEntropy:
    """Softmax cross-entropy, summed over rows, with its gradient."""

    def __init__(self, logits, target):
        self.logits, self.target, self.dx = logits, target, np.empty_like(logits)

    def both(self):
        self.loss = cross_entropy(self.logits, self.target, self.dx)

    def results(self, part: str) -> dict[str, np.ndarray]:
        return {"loss": np.array([self.loss]), "dx": self.dx}


def squared_error(prediction, target, out) -> float:
    """The loss, a mean over columns, summed over rows; ``out`` receives its gradient."""
    np.subtract(prediction, target, out=out)
    total = np.vdot(out, out) / out.shape[1]
    out *= 2 / out.shape[1]
    return total
