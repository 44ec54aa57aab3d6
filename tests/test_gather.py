# SPDX-License-Identifier: Apache-2.0
"""gather and gather_index: rows of any type, stride and order, from any position."""

import numpy as np
import pytest

from cases import counters
from checks import rng, shapes
from instructions import DTYPES, Operand, assert_same_bits, run_kernel, stage

INTEGERS = [name for name, dtype in DTYPES.items() if dtype[0] in "ui"]
SHAPES = [*shapes(2, limit=129), (3, 1100)]


def gather(backend, data, rows, order=None, position=0):
    cols = data.array.shape[1] if isinstance(data, Operand) else data.shape[1]
    out = np.empty((rows, cols), backend.real)
    run_kernel(backend, "gather", [data, order, counters(position=position)], rows, cols, [stage("store", out=out)])
    return out


def gather_index(backend, data, rows, order=None, position=0):
    cols = data.array.shape[1] if isinstance(data, Operand) else data.shape[1]
    out = np.empty((rows, cols), np.int32)
    run_kernel(backend, "gather_index", [data, order, counters(position=position), out], rows, cols)
    return out


def extremes(dtype, rows, cols):
    """Random numbers of a type, its largest and smallest among them."""
    r, dtype = rng(1), np.dtype(dtype)
    if dtype.kind == "f":
        data = r.normal(size=(rows, cols)).astype(dtype)
        info = np.finfo(dtype)
        special = [info.max, -info.max, info.tiny, info.smallest_subnormal, 0, -0.0, np.inf, np.nan]
    else:
        info = np.iinfo(dtype)
        data = r.integers(info.min, info.max, size=(rows, cols), dtype=dtype, endpoint=True)
        special = [info.max, info.min, info.max - 1, 0, 1]
    data.flat[: len(special)] = special
    return data


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_converts_every_dtype(backend, real, dtype):
    data = extremes(dtype, 20, 19)
    with np.errstate(over="ignore", under="ignore"):
        assert_same_bits(gather(backend, data, 20), data.astype(real))


def test_gather_converts_bfloat16(backend, real):
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        want = (bits.astype(np.uint32) << 16).view(np.float32).astype(real)
    assert_same_bits(gather(backend, Operand(bits, dtype="bf16"), 256), want)


def test_gather_converts_every_float16(backend, real):
    data = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    assert_same_bits(gather(backend, data, 256), data.astype(real))


def test_gather_follows_the_order_from_its_position(backend, real):
    r = rng(2)
    for rows, cols in SHAPES:
        data = r.integers(0, 256, size=(rows + 9, cols)).astype(np.uint8)
        order = r.permutation(rows + 9).astype(np.int64)[None]
        want = data[order[0, 4 : 4 + rows]]
        assert_same_bits(gather(backend, data, rows, order, 4), want.astype(real))
        assert_same_bits(gather_index(backend, data, rows, order, 4), want.astype(np.int32))


def test_gather_without_order_reads_on(backend, real):
    data = rng(3).normal(size=(100, 7)).astype(np.float32)
    assert_same_bits(gather(backend, data, 60, position=40), data[40:].astype(real))


def test_gather_reads_no_row_outside(backend, real):
    """Orders and positions come from memory that may hold anything; the nearest row that exists is taken."""
    data = rng(8).integers(0, 100, size=(5, 9))
    order = np.array([[-1, 10**12, -(2**63), 2**63 - 1, 3]])
    assert_same_bits(gather(backend, data, 5, order), data[[0, 4, 0, 4, 3]].astype(real))
    assert_same_bits(gather_index(backend, data, 5, order), data[[0, 4, 0, 4, 3]].astype(np.int32))
    for position, rows in ((3, [3, 4, 4]), (-2, [0, 0, 0]), (2**63 - 1, [4, 4, 4]), (-(2**63), [0, 0, 0])):
        assert_same_bits(gather(backend, data, 3, position=position), data[rows].astype(real))
        got = gather_index(backend, data, 3, np.arange(5)[None], position)
        assert_same_bits(got, data[rows].astype(np.int32))


def test_gather_may_repeat_rows(backend, real):
    data = rng(4).normal(size=(5, 9)).astype(real)
    order = np.array([[4, 4, 0, 4, 1, 1]], np.int64)
    assert_same_bits(gather(backend, data, 6, order), data[order[0]])


@pytest.mark.parametrize(
    "see",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x[::3, 1::2],
        lambda x: np.asfortranarray(x),
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.broadcast_to(x[:, :1], x.shape),
    ],
    ids=["rows_backward", "columns_backward", "steps", "fortran", "one_row", "one_column"],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_gather_reads_an_array_where_it_lies(backend, real, see, dtype):
    data = see(rng(5).integers(0, 100, size=(97, 131)).astype(dtype))
    order = rng(6).permutation(data.shape[0]).astype(np.int64)[None]
    rows = data.shape[0]
    assert_same_bits(gather(backend, Operand(data, in_place=True), rows, order), data[order[0]].astype(real))
    if dtype != "float32":
        got = gather_index(backend, Operand(data, in_place=True), rows, order)
        assert_same_bits(got, data[order[0]].astype(np.int32))


def test_gather_reads_read_only_memory(backend, real):
    data = np.frombuffer(bytes(range(200)), np.uint8).reshape(20, 10)
    assert_same_bits(gather(backend, Operand(data, in_place=True), 20), data.astype(real))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_gather_index_keeps_integers(backend, dtype):
    for rows, cols in ((1, 1), (65, 3), (130, 17)):
        data = rng(7).integers(0, 100, size=(rows, cols)).astype(dtype)
        assert_same_bits(gather_index(backend, data, rows), data.astype(np.int32))
    signed = np.array([[-1], [2**31 - 1], [-(2**31)]])
    assert_same_bits(gather_index(backend, signed, 3), signed.astype(np.int32))
