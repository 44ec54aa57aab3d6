# SPDX-License-Identifier: Apache-2.0
"""Runs of stages that go through one loop have the bits of those stages, with others between them."""

import numpy as np
import pytest

from cases import make_case
from instructions import assert_same_bits, run_kernel, stage
from instructions import backend as backend_of
from runs import BACKWARD, FORWARD, Chain

SHAPES = ((3, 67), (65, 130), (130, 600), (5, 2100))


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
        x = chain.input()
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
