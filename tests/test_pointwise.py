# SPDX-License-Identifier: Apache-2.0
"""Every stage of a chain against the oracle, and fused chains against the same stages one by one."""

import ctypes
import mmap

import numpy as np
import pytest

import oracle
from cases import CHAINED, counters, long_chain, make_case
from checks import assert_close, rng, shapes
from instructions import Operand, activation, assert_same_bits, pointwise, run_kernel, stage
from instructions import backend as backend_of

SHAPES = shapes(2)
CONSTANTS = {"leaky_relu": (0.2,), "elu": (1.7,)}


def arrays(seed, rows, cols, real, count=1):
    return rng(seed).normal(size=(count, rows, cols)).astype(real)


def wide(*found):
    return [x.astype(np.float64) for x in found]


def reduce(backend, x, chain, names):
    """The results (1, cols) of the chain's last stage over x."""
    outs = {name: np.empty((1, x.shape[1]), x.dtype) for name in names}
    chain[-1].operands.update(outs)
    run_kernel(backend, "pointwise", [x], *x.shape, chain)
    return list(outs.values())


# ------------------------------------------------------------------------------------------------------ stages
def test_affine_matches_oracle(backend, real):
    for rows, cols in SHAPES:
        (x,) = arrays(1, rows, cols, real)
        a, b = arrays(2, 1, cols, real, 2)
        for given in ({"a": a, "b": b}, {"a": a}, {"b": b}, {}):
            factor, term = (given[k].astype(np.float64) if k in given else d for k, d in (("a", 1.0), ("b", 0.0)))
            got = pointwise(backend, x, [stage("affine", **given)])
            assert_close(got, x * factor + term, depth=2, scale=np.abs(x * factor) + np.abs(term))


def test_affine2_matches_oracle(backend, real):
    for rows, cols in SHAPES:
        x, y = arrays(3, rows, cols, real, 2)
        a, b, c = arrays(4, 1, cols, real, 3)
        got = pointwise(backend, x, [stage("affine2", operand=y, a=a, b=b, c=c)])
        xw, yw, aw, bw, cw = wide(x, y, a, b, c)
        assert_close(got, aw * xw + bw * yw + cw, depth=4, scale=np.abs(aw * xw) + np.abs(bw * yw) + np.abs(cw))


def test_add_and_scale_are_rounded_once(backend, real):
    for rows, cols in SHAPES:
        x, y = arrays(5, rows, cols, real, 2)
        assert_same_bits(pointwise(backend, x, [stage("add", operand=y)]), x + y)
        assert_same_bits(pointwise(backend, x, [stage("scale", numbers=[0.7])]), x * np.dtype(real).type(0.7))


def test_store_stores_the_value_of_its_place_in_the_chain(backend, real):
    for rows, cols in SHAPES:
        x, y, early, late = arrays(6, rows, cols, real, 4)
        chain = [stage("store", out=early), stage("add", operand=y), stage("store", out=late)]
        run_kernel(backend, "pointwise", [x], rows, cols, chain)
        assert_same_bits(early, x)
        assert_same_bits(late, x + y)


def test_store_may_overwrite_what_enters(backend, real):
    x, y = arrays(7, 65, 33, real, 2)
    want = x + y
    run_kernel(backend, "pointwise", [x], 65, 33, [stage("add", operand=y), stage("store", out=x)])
    assert_same_bits(x, want)


@pytest.fixture
def cpu_backend(cpu_isa, real):
    return backend_of(cpu_isa, real)


def test_whole_rows_and_pieces_of_them_give_the_same(cpu_backend):
    # From 1024 rows on a row wider than 2048 columns goes through the chain alone.
    backend, (rows, cols) = cpu_backend, (1030, 2056)
    x, y, out = arrays(24, rows, cols, backend.real, 3)
    sums = np.empty((2, 1, cols), backend.real)
    chain = [stage("sum", out=sums[0]), stage("add", operand=y), stage("dot", operand=x, out=sums[1])]
    run_kernel(backend, "pointwise", [x], rows, cols, [*chain, stage("store", out=out)])
    assert_same_bits(out, x + y)
    for piece in (slice(0, 200), slice(2000, 2056)):
        part, other = (np.ascontiguousarray(z[:, piece]) for z in (x, y))
        narrow = np.empty((2, 1, part.shape[1]), backend.real)
        chain = [stage("sum", out=narrow[0]), stage("add", operand=other), stage("dot", operand=part, out=narrow[1])]
        run_kernel(backend, "pointwise", [part], *part.shape, chain)
        assert_same_bits(np.ascontiguousarray(sums[:, :, piece]), narrow)


def at_the_end_of_memory(x):
    """A copy whose last element is the last one that may be read: the page behind it may not be."""
    page = mmap.PAGESIZE
    size = -(-x.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    whole = np.frombuffer(memory, np.uint8)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.ctypes.data + size), page, 0) == 0
    end = whole[size - x.nbytes : size].view(x.dtype).reshape(x.shape)
    end[...] = x
    return end


@pytest.mark.parametrize("kind", ["scale", "activate", "dropout", "sum", "dot", "moments", "store"])
def test_nothing_behind_what_enters_is_read(cpu_backend, kind):
    real, mask = cpu_backend.real, counters(seed=5, draws=7)
    for rows, cols in ((1, 1), (3, 7), (65, 13), (2, 67)):
        x = arrays(25, rows, cols, real)[0]
        made = {"scale": stage("scale", numbers=[2]), "dropout": stage("dropout", numbers=[0.4], a=mask),
                "activate": activation(cpu_backend, "relu")}  # fmt: skip
        given = {"operand": np.ones_like(x)} if kind == "dot" else {}
        results = [np.empty((1, cols) if kind != "store" else x.shape, real) for _ in range(2)]
        outs = dict(zip(("out", "out2"), results[: 1 + (kind == "moments")], strict=False))
        chain = [made.get(kind) or stage(kind, **given, **outs)]
        y = np.empty_like(x)
        for first in (x, Operand(at_the_end_of_memory(x), in_place=True)):
            was = [y.copy(), *(r.copy() for r in results)]
            run_kernel(cpu_backend, "pointwise", [first], rows, cols, [*chain, stage("store", out=y)])
        assert_same_bits(y, was[0])
        for now, before in zip(outs.values(), was[1:], strict=False):
            assert_same_bits(now, before)


def test_operand_may_be_scaled_and_shifted(backend, real):
    for rows, cols in SHAPES:
        x, y = arrays(8, rows, cols, real, 2)
        scale, shift = arrays(9, 1, cols, real, 2)
        xw, yw, sw, tw = wide(x, y, scale, shift)
        for given, seen in (
            ({"operand_scale": scale, "operand_shift": shift}, yw * sw + tw),
            ({"operand_scale": scale}, yw * sw),
            ({"operand_shift": shift}, yw + tw),
        ):
            got = pointwise(backend, x, [stage("add", operand=y, **given)])
            assert_close(got, xw + seen, depth=3, scale=np.abs(xw) + np.abs(yw * sw) + np.abs(yw) + np.abs(tw))


def test_dropout_matches_oracle(backend, real):
    for rows, cols in SHAPES:
        (x,) = arrays(10, rows, cols, real)
        chain = [stage("dropout", random_op=3, numbers=[0.4], a=counters(draws=5, seed=11))]
        mask = oracle.dropout_mask(rows, cols, 0.4, 11, 3, 5)
        assert_close(pointwise(backend, x, chain), oracle.dropout(x, mask, 0.4), depth=2, scale=0)


# ------------------------------------------------------------------------------------------------- activations
@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_matches_oracle(backend, real, name):
    constants = CONSTANTS.get(name, ())
    for rows, cols in SHAPES:
        x = 4 * arrays(11, rows, cols, real)[0]
        x[0, 0] = 0
        got = pointwise(backend, x, [activation(backend, name, constants)])
        want = oracle.ACTIVATIONS[name][0](x, constants)
        ulps = 4
        if name.startswith("gelu"):
            # The oracle rounds the exponent of the left tail in float64, where exp(exponent) is about y / x.
            exponent = np.abs(np.log(np.abs(np.divide(want, x, where=want != 0, out=np.ones_like(want)))))
            ulps = 8 + (real == "float64") * 4 * exponent
        assert_close(got, want, scale=0, ulps=ulps)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_gradient_matches_oracle(backend, real, name):
    constants = CONSTANTS.get(name, ())
    f = activation(backend, name, constants)
    for rows, cols in SHAPES:
        v, x = arrays(12, rows, cols, real, 2)
        x[0, 0] = 0
        y = pointwise(backend, x, [f])
        want = v.astype(np.float64) * oracle.ACTIVATIONS[name][1](x, constants)
        for from_output in (False, True)[: 1 + backend.activations[name][1]]:
            operand = y if from_output else x
            chain = [activation(backend, name, constants, "activate_grad", from_output, operand=operand)]
            # A derivative of the order of 1 is a difference of numbers near 1.
            assert_close(pointwise(backend, v, chain), want, depth=4, scale=np.abs(v), ulps=4)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_of_an_element_does_not_depend_on_its_place(backend, real, name):
    f = activation(backend, name, CONSTANTS.get(name, ()))
    x = (3 * rng(13).normal(size=(1, 1999))).astype(real)
    y = pointwise(backend, x, [f])
    for cols in (1, 7, 13):
        part = np.ascontiguousarray(x[0, : 1999 // cols * cols].reshape(-1, cols)[::-1])
        assert_same_bits(pointwise(backend, part, [f])[::-1].ravel(), y[0, : part.size])


# -------------------------------------------------------------------------------------------------- reductions
def test_sum_matches_oracle(backend, real):
    for rows, cols in [*SHAPES, (1000, 3)]:
        (x,) = arrays(14, rows, cols, real)
        (got,) = reduce(backend, x, [stage("sum")], ["out"])
        wide_x = x.astype(np.float64)
        assert_close(got, wide_x.sum(axis=0)[None], depth=rows, scale=np.abs(wide_x).sum(axis=0))


def test_dot_matches_oracle(backend, real):
    for rows, cols in [*SHAPES, (1000, 3)]:
        x, y = arrays(15, rows, cols, real, 2)
        scale, shift = arrays(16, 1, cols, real, 2)
        for given, seen in (({}, y.astype(np.float64)), (
            {"operand_scale": scale, "operand_shift": shift}, y.astype(np.float64) * scale + shift,
        )):  # fmt: skip
            (got,) = reduce(backend, x, [stage("dot", operand=y, **given)], ["out"])
            terms = x * seen
            magnitude = np.abs(x) * (np.abs(y * scale) + np.abs(shift) + np.abs(y))
            assert_close(got, terms.sum(axis=0)[None], depth=rows + 2, scale=magnitude.sum(axis=0))


@pytest.mark.parametrize("offset", [0, 1000])
def test_moments_match_oracle(backend, real, offset):
    for rows, cols in [*SHAPES, (1000, 3)]:
        x = arrays(17, rows, cols, real)[0] + np.dtype(real).type(offset)
        mean, squares = reduce(backend, x, [stage("moments")], ["out", "out2"])
        wide_x = x.astype(np.float64)
        deviations = wide_x - wide_x.mean(axis=0)
        assert_close(mean, wide_x.mean(axis=0)[None], depth=rows, scale=np.abs(wide_x).mean(axis=0))
        # An error e of the mean adds rows e^2: the square of what was allowed there.
        shift = np.finfo(real).eps * np.sqrt(rows) * np.abs(wide_x).mean(axis=0)
        want = np.square(deviations).sum(axis=0)
        # Rounding a deviation by u |mean| moves the sum by 2 u |mean| times the sum of |deviations|.
        noise = np.finfo(real).eps * np.abs(wide_x).mean(axis=0) * np.abs(deviations).sum(axis=0)
        error = np.abs(squares[0] - want)
        allowed = 4 * np.sqrt(rows) * np.finfo(real).eps * want + rows * shift**2 + noise
        assert (error <= allowed).all()


def test_moments_of_rows_that_are_equal_vanish(backend, real):
    for rows in (2, 64, 101, 257):
        x = np.full((rows, 5), 0.1, real)
        mean, squares = reduce(backend, x, [stage("moments")], ["out", "out2"])
        assert np.abs(mean - x[:1]).max() <= rows * np.finfo(real).eps
        assert squares.max() <= rows * (rows * np.finfo(real).eps) ** 2


def test_reductions_carry_nan_and_only_in_its_column(backend, real):
    (x,) = arrays(18, 130, 9, real)
    x[70, 4] = np.nan
    for kind, names, operands in (("sum", ["out"], {}), ("dot", ["out"], {"operand": np.ones_like(x)}),
                                  ("moments", ["out", "out2"], {})):  # fmt: skip
        for result in reduce(backend, x, [stage(kind, **operands)], names):
            assert np.isnan(result[0]).tolist() == [c == 4 for c in range(9)]


# ------------------------------------------------------------------------------------------------------ fusion
def run_one_by_one(backend, x, chain):
    for s in chain:
        y = np.empty_like(x)
        run_kernel(backend, "pointwise", [x], *x.shape, [s, stage("store", out=y)])
        x = y
    return x


@pytest.mark.parametrize("kernel", CHAINED)
def test_fused_chain_has_the_bits_of_its_stages_one_by_one(backend, real, kernel):
    for rows, cols in ((1, 1), (1, 67), (64, 32), (65, 131), (130, 600)):
        value, fused = (np.empty((rows, cols), real) for _ in range(2))
        make_case(backend, kernel, rows, cols).run(backend, [stage("store", out=value)])
        chain, written = long_chain(backend, rows, cols, real)
        make_case(backend, kernel, rows, cols).run(backend, [*chain, stage("store", out=fused)])
        results = [x.copy() for x in written]
        for x in written:
            x[...] = np.nan
        assert_same_bits(fused, run_one_by_one(backend, value, chain))
        for got, want in zip(results, written, strict=True):
            assert_same_bits(got, want)
