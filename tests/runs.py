# SPDX-License-Identifier: Apache-2.0
"""Runs of stages that go through one loop: every form of them."""

from itertools import product

import numpy as np

from cases import counters
from checks import rng
from instructions import activation, stage

FORWARD = [r for r in product((False, True), (False, True), ("", "drawn", "kept"), (False, True)) if any(r[:3])]
BACKWARD = [
    r for r in product((False, True), ("", "plain", "scaled"), (False, True), ("", "sum", "plain", "scaled")) if any(r[:2])
]


class Chain:
    """Stages, and what they write."""

    def __init__(self, backend, rows, cols):
        self.backend, self.rows, self.cols, self.real = backend, rows, cols, backend.real
        self.rng, self.stages, self.written = rng((rows, cols)), [], []

    def array(self, rows):
        return self.rng.normal(size=(rows, self.cols)).astype(self.real)

    def input(self):
        """(rows, cols), special values among them."""
        x = self.array(self.rows)
        special = x.reshape(-1)[:: max(1, x.size // 5)]
        special[...] = np.resize(np.array([np.inf, -0.0, np.nan, -np.inf, 0], x.dtype), special.shape)
        return x

    def out(self, rows, cols=None, dtype=None):
        self.written.append(np.zeros((rows, cols or self.cols), dtype or self.real))
        return self.written[-1]

    def operand(self, kind):
        around = {"operand_scale": self.array(1), "operand_shift": self.array(1)} if kind == "scaled" else {}
        return {"operand": self.array(self.rows)} | around

    def forward(self, affine, relu, dropout, stored):
        if affine:
            self.stages.append(stage("affine", a=self.array(1), b=self.array(1)))
        if relu:
            self.stages.append(activation(self.backend, "relu"))
        if dropout:
            kept = {"out": self.out(self.rows, (self.cols + 15) // 16 * 2, np.uint8)} if dropout == "kept" else {}
            self.stages.append(stage("dropout", numbers=[0.4], random_op=3, a=counters(seed=5, draws=7), **kept))
        return self.end(stored)

    def backward(self, again, grad, stored, sums):
        if again:
            bits = self.rng.integers(0, 256, (self.rows, (self.cols + 15) // 16 * 2), np.uint8)
            self.stages.append(stage("dropout", numbers=[0.4], random_op=3, a=counters(), operand=bits))
        if grad:
            self.stages.append(activation(self.backend, "relu", (), "activate_grad", True, **self.operand(grad)))
        self.end(stored)
        if sums:
            self.stages.append(stage("sum", out=self.out(1)))
        if sums in ("plain", "scaled"):
            self.stages.append(stage("dot", out=self.out(1), **self.operand(sums)))
        return self

    def end(self, stored):
        if stored:
            self.stages.append(stage("store", out=self.out(self.rows)))
        return self

    def apart(self):
        """The same stages, a factor of one between them."""
        return [each for s in self.stages for each in (s, stage("scale", numbers=[1.0]))]
