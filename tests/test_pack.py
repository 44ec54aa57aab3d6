# SPDX-License-Identifier: Apache-2.0
"""pack: a value, or its transpose, row major or in strips, once or twice."""

import numpy as np
import pytest

from checks import rng, shapes
from instructions import Operand, activation, assert_same_bits, pointwise, run_kernel, stage, strips_of

SHAPES = shapes(2)


def strips(shape, strip, real):
    """Room for a (k, n) matrix in strips, every element to be written."""
    k, n = shape
    return Operand(np.full((-(-n // strip), k, strip), np.nan, real), strip_cols=n)


def pack(backend, x, forms, chain=()):
    """forms: (transposed, in strips) of one or two results."""
    outs = []
    for transposed, striped in forms:
        shape = x.shape[::-1] if transposed else x.shape
        outs.append(strips(shape, backend.strip, x.dtype) if striped else np.full(shape, np.nan, x.dtype))
    operands = [x, *outs, None][:3]
    run_kernel(backend, "pack", operands, *x.shape, chain, numbers=[t for t, _ in (*forms, (0, 0))][:2])
    return [out.array if isinstance(out, Operand) else out for out in outs]


def expected(x, form, strip):
    transposed, striped = form
    x = np.ascontiguousarray(x.T) if transposed else x
    return strips_of(x, strip) if striped else x


@pytest.mark.parametrize("form", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=["rows", "rows_t", "strips", "strips_t"])
def test_pack_moves_every_element(backend, real, form):
    for rows, cols in [*SHAPES, (1, 1100), (1100, 3)]:
        x = rng(1).normal(size=(rows, cols)).astype(real)
        (got,) = pack(backend, x, [form])
        assert_same_bits(got, expected(x, form, backend.strip))


@pytest.mark.parametrize("second", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("first", [(0, 0), (0, 1), (1, 1)])
def test_pack_makes_two_forms_at_once(backend, real, first, second):
    for rows, cols in ((1, 1), (7, 65), (65, 7), (130, 257)):
        x = rng(2).normal(size=(rows, cols)).astype(real)
        for got, form in zip(pack(backend, x, [first, second]), (first, second), strict=True):
            assert_same_bits(got, expected(x, form, backend.strip))


def test_pack_packs_what_its_chain_makes(backend, real):
    for rows, cols in ((3, 9), (65, 131)):
        x, y, stored = rng(3).normal(size=(3, rows, cols)).astype(real)
        total = np.empty((1, cols), real)
        chain = [stage("add", operand=y), activation(backend, "relu")]
        value = pointwise(backend, x, chain)
        fused = [*chain, stage("store", out=stored), stage("sum", out=total)]
        for got, form in zip(pack(backend, x, [(0, 1), (1, 1)], fused), ((0, 1), (1, 1)), strict=True):
            assert_same_bits(got, expected(value, form, backend.strip))
        assert_same_bits(stored, value)


def test_pack_keeps_special_values(backend, real):
    x = np.array([[np.nan, np.inf, -0.0], [-np.inf, np.finfo(real).smallest_subnormal, 1]], real)
    for form in ((0, 1), (1, 1), (1, 0)):
        (got,) = pack(backend, x, [form])
        assert_same_bits(got, expected(x, form, backend.strip))
