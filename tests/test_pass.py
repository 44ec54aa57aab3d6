# SPDX-License-Identifier: Apache-2.0
"""Runs of stages that go through one loop have the bits of those stages, with others between them."""

from itertools import product

import numpy as np
import pytest

from cases import counters, make_case
from checks import rng
from instructions import activation, assert_same_bits, run_kernel, stage
from instructions import backend as backend_of

SHAPES = ((3, 67), (65, 130), (130, 600), (5, 2100))
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


def check(chain, case):
    results = []
    for stages in (chain.stages, chain.apart()):
        for more in ([], [stage("scale", numbers=[2.0])]):
            value = np.empty((chain.rows, chain.cols), chain.real)
            case([*stages, *more, stage("store", out=value)])
            results.append([value / (2 if more else 1), *(x.copy() for x in chain.written)])
            for x in chain.written:
                x[...] = 0
    for found in results[1:]:
        for got, want in zip(found, results[0], strict=True):
            assert_same_bits(got, want)


def both(backend, make):
    """In a kernel of elements, special values among them, and behind a product."""
    for rows, cols in SHAPES:
        chain = make(Chain(backend, rows, cols))
        x = chain.array(rows)
        special = x.reshape(-1)[:: max(1, x.size // 5)]
        special[...] = np.resize(np.array([np.inf, -0.0, np.nan, -np.inf, 0], x.dtype), special.shape)
        check(chain, lambda stages, x=x: run_kernel(backend, "pointwise", [x], *x.shape, stages))
        case = make_case(backend, "product", rows, cols)
        check(chain, lambda stages, case=case: case.run(backend, stages))


@pytest.fixture
def cpu_backend(cpu_isa, real):
    return backend_of(cpu_isa, real)


@pytest.mark.parametrize("run", FORWARD, ids=str)
def test_a_run_forward_has_the_bits_of_its_stages(cpu_backend, run):
    both(cpu_backend, lambda chain: chain.forward(*run))


@pytest.mark.parametrize("run", BACKWARD, ids=str)
def test_a_run_backward_has_the_bits_of_its_stages(cpu_backend, run):
    both(cpu_backend, lambda chain: chain.backward(*run))
