# SPDX-License-Identifier: Apache-2.0
"""The matrix product in every role and layout, against the oracle and against itself."""

import numpy as np
import pytest

from cases import SHORT_CHAINS, made_stage
from checks import assert_close, rng, shapes
from dlcore import _core
from instructions import Operand, activation, assert_same_bits, run_kernel, stage, strips_of

# m, n, k: few rows with a large B, blocks and splits of a long depth, many tiles of C; strips of B that later row chunks
# meet again, of all columns or of one block, and rows that are too few to make them.
DEEP = [
    (1, 1030, 639), (1, 515, 2100), (2, 513, 2049), (4, 520, 1100), (5, 520, 1100), (6, 100, 1500), (7, 64, 1025),
    (64, 31, 5000), (64, 128, 1024), (65, 130, 257), (33, 129, 512), (129, 257, 641),
    (129, 4000, 21), (450, 200, 90), (130, 300, 300), (67, 700, 530), (260, 260, 600),
]  # fmt: skip
SHAPES = shapes(3) + DEEP


def operands(seed, m, n, k, real):
    r = rng(seed)
    return r.normal(size=(m, k)).astype(real), r.normal(size=(k, n)).astype(real)


def product(backend, a, b, role="nn", chain=(), n=None):
    """C (m, n); b may be an Operand of n columns."""
    m = a.shape[1] if role == "tn" else a.shape[0]
    n = n or (b.shape[0] if role == "nt" else b.shape[1])
    c = np.empty((m, n), a.dtype)
    run_kernel(backend, "product", [a, b], m, n, [*chain, stage("store", out=c)], [_core.ROLES.index(role)])
    return c


def test_product_matches_oracle(backend, real):
    for m, n, k in SHAPES:
        a, b = operands(1, m, n, k, real)
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        scale = np.abs(wide_a) @ np.abs(wide_b)
        for role, first in (("nn", a), ("tn", np.ascontiguousarray(a.T))):
            assert_close(product(backend, first, b, role), wide_a @ wide_b, depth=k, scale=scale)


@pytest.mark.parametrize(("m", "n", "k"), [(1000, 1030, 300), (260, 3000, 300), (600, 2100, 520)])
def test_wide_blocks_of_a_weight_gradient_have_the_bits_of_others(cpu_isa, m, n, k):
    backend = _core.Backend(cpu_isa, "float32")
    a, b = operands(8, m, n, k, np.float32)
    bias = rng(9).normal(size=(1, n)).astype(np.float32)
    chain = [stage("affine", b=bias), activation(backend, "relu"), stage("add", operand=rng(3).normal(size=(m, n)).astype("f"))]
    found = product(backend, np.ascontiguousarray(a.T), b, "tn", chain)
    assert_same_bits(found, product(backend, a, b, "nn", chain))


def test_product_of_small_integers_is_exact(backend, real):
    r = rng(2)
    for m, n, k in SHAPES:
        a, b = r.integers(-8, 9, size=(m, k)), r.integers(-8, 9, size=(k, n))
        assert (product(backend, a.astype(real), b.astype(real)) == a @ b).all()


def test_product_errs_no_more_than_numpys(isa):
    backend = _core.Backend(isa, "float32")
    for m, n, k in ((64, 64, 512), (7, 128, 2000), (256, 100, 100)):
        a, b = operands(3, m, n, k, np.float32)
        want = a.astype(np.float64) @ b
        error, numpys = (np.sqrt(np.square(c - want).mean()) for c in (product(backend, a, b), a @ b))
        assert error <= 1.5 * numpys


def test_product_roles_have_equal_bits(backend, real):
    for m, n, k in SHAPES:
        a, b = operands(4, m, n, k, real)
        want = product(backend, a, b)
        assert_same_bits(product(backend, a, np.ascontiguousarray(b.T), "nt"), want)
        if k < 1024:  # a deeper weight gradient is split by its depth alone
            assert_same_bits(product(backend, np.ascontiguousarray(a.T), b, "tn"), want)


def test_product_of_strips_has_equal_bits(backend, real):
    for m, n, k in SHAPES:
        a, b = operands(5, m, n, k, real)
        strips = Operand(strips_of(b, backend.strip), strip_cols=n)
        assert_same_bits(product(backend, a, strips, n=n), product(backend, a, b))
        transposed = np.ascontiguousarray(a.T)
        assert_same_bits(product(backend, transposed, strips, "tn", n=n), product(backend, transposed, b, "tn"))


@pytest.mark.parametrize(("n", "k"), [(1030, 700), (1550, 260), (1030, 4250)])  # of 64 columns, the last of fewer
def test_few_rows_through_far_strips_have_the_bits_of_rows(backend, real, n, k):
    bias = rng(12).normal(size=(1, n)).astype(real)
    for m in (1, 2, 3, 4, 5, 6, 7, 8, 12, 13):
        a, b = operands(13, m, n, k, real)
        found = []
        for given in (b, Operand(strips_of(b, backend.strip), strip_cols=n)):
            c, sums = np.empty((m, n), real), np.empty((1, n), real)
            chain = [stage("affine", b=bias), activation(backend, "relu"), stage("sum", out=sums), stage("store", out=c)]
            run_kernel(backend, "product", [a, given], m, n, chain, [_core.ROLES.index("nn")], threads=(1, 3))
            found += [c, sums]
        assert_same_bits(found[0], found[2])
        assert_same_bits(found[1], found[3])
        wide = a.astype(np.float64) @ b.astype(np.float64) + bias
        assert_close(c, np.maximum(wide, 0), depth=k, scale=np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias))


def test_product_of_packed_operand_has_equal_bits(backend, real):
    for m, n, k in ((5, 31, 17), (65, 129, 257)):
        a, b = operands(6, m, n, k, real)
        for transposed, x in ((0, b), (1, np.ascontiguousarray(b.T))):
            packed = Operand(np.empty((-(-n // backend.strip), k, backend.strip), real), strip_cols=n)
            run_kernel(backend, "pack", [x, packed, None], *x.shape, numbers=[transposed, 0])
            assert_same_bits(product(backend, a, packed, n=n), product(backend, a, b))


def test_product_has_equal_bits_in_every_instruction_set_with_fma(real):
    sets = [isa for isa in _core.cpu_info()["available"] if isa != "baseline"]
    if len(sets) < 2:
        pytest.skip(f"one instruction set with FMA here: {sets}")
    for m, n, k in SHAPES:
        a, b = operands(7, m, n, k, real)
        results = [product(_core.Backend(isa, real), a, b) for isa in sets]
        for other in results[1:]:
            assert_same_bits(other, results[0])


def test_product_keeps_nan_and_inf_in_their_row_and_column(backend, real):
    for m, n, k in ((1, 17, 5), (7, 65, 33), (66, 130, 700)):
        a, b = operands(8, m, n, k, real)
        want = product(backend, a, b)
        a[m // 2, k // 2], b[k - 1, n // 3] = np.nan, np.inf
        got = product(backend, a, b)
        rows, cols = np.arange(m) == m // 2, np.arange(n) == n // 3
        assert np.isnan(got[rows]).all()
        assert np.isinf(got[~rows][:, cols]).all()
        assert_same_bits(got[~rows][:, ~cols], want[~rows][:, ~cols])


def test_product_does_not_lose_a_zero_row_times_nan(backend, real):
    a, b = np.zeros((3, 8), real), np.full((8, 4), np.nan, real)
    assert np.isnan(product(backend, a, b)).all()


def test_product_of_one_operand_with_itself(backend, real):
    a = rng(9).normal(size=(33, 33)).astype(real)
    assert_same_bits(product(backend, a, a), product(backend, a, a.copy()))
    assert_same_bits(product(backend, a, a, "nt"), product(backend, a, a.copy(), "nt"))


def test_layout_asks_for_strips_where_many_rows_read_them(backend):
    assert backend.layout("nn", 1, 256, 256) == "row_major"
    assert backend.layout("nn", 512, 256, 256) in _core.LAYOUTS
    with pytest.raises(ValueError, match=r"layout: expected positive m, n and k, got \(1, 0, 1\)"):
        backend.layout("nn", 1, 0, 1)
    with pytest.raises(ValueError, match="layout role: expected one of nn, nt, tn, got 'tt'"):
        backend.layout("tt", 1, 1, 1)


@pytest.mark.parametrize("names", SHORT_CHAINS)
def test_product_and_its_chain_have_the_bits_of_one_after_the_other(backend, real, names):
    r = rng(10)
    shapes = ((6, 17, 5), (64, 96, 40), (130, 64, 300), (67, 200, 530), (5, 1000, 700), (64, 31, 5000))
    small = ((33, 32, 32), (70, 64, 8), (33, 32, 32))  # whose value is made where it is stored
    for (m, n, k), role in zip(shapes + small, 3 * _core.ROLES, strict=True):
        a, b = operands(11, m, n, k, real)
        a, b = np.ascontiguousarray(a.T) if role == "tn" else a, np.ascontiguousarray(b.T) if role == "nt" else b
        sizes = [[(1, n), (1, n), (m, n)] for _ in names.split()]
        given = [[r.normal(size=size).astype(real) for size in each] for each in sizes]
        found, wanted, c = [], [], np.empty((m, n), real)
        chains = [
            [made_stage(backend, name, arrays, out, real) for name, arrays in zip(names.split(), given, strict=True)]
            + [made_stage(backend, "store", given[0], out, real)]
            for out in (found, wanted)
        ]
        number = [_core.ROLES.index(role)]
        run_kernel(backend, "product", [a, b], m, n, chains[0], number)
        run_kernel(backend, "product", [a, b], m, n, [stage("store", out=c)], number)
        run_kernel(backend, "pointwise", [c], m, n, chains[1])
        for one, other in zip(found, wanted, strict=True):
            assert_same_bits(one, other)


def test_a_section_of_row_blocks_takes_no_split_of_the_depth(cpu_isa, real):
    backend = _core.Backend(cpu_isa, real)
    kind = "f32" if real == "float32" else "f64"
    shapes = ((128, 2048), (2048, 10), (128, 10))
    a, b, c = (_core.View(i, kind, rows=m, cols=n) for i, (m, n) in enumerate(shapes))
    instruction = _core.Instruction("product", 128, 10, [a, b], [_core.Stage("store", out=c)], [0])
    size = backend.scratch(instruction)
    own = _core.View(3, "u8", rows=1, cols=size, ld=size)
    instruction = _core.Instruction("product", 128, 10, [a, b], [_core.Stage("store", out=c)], [0], own)
    assert size > 0 and backend.depth(instruction) == -1
    with pytest.raises(ValueError, match="expected a kernel that goes by rows, got product in larger panels or by its depth"):
        backend.record([([instruction], False, 64, 0)])
