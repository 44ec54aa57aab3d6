# SPDX-License-Identifier: Apache-2.0
"""Products from bf16 terms: the parts, how they lie, and the products' errors against float64 and against float32."""

import os

import numpy as np
import pytest

from cases import counters
from checks import assert_close, rng, shapes, small
from dlcore import _core
from instructions import (
    Operand,
    activation,
    assert_same_bits,
    from_parts,
    from_planes,
    made_of,
    room_for_parts,
    room_for_planes,
    run_kernel,
    stage,
    strips_of,
)

TERMS = tuple(_core.PARTS)
# m, n, k: edges of tiles, of panels of rows, of groups and blocks of columns, of blocks and splits of the depth.
EDGES = [
    (1, 1, 1), (15, 17, 31), (16, 33, 32), (31, 32, 33), (127, 129, 255), (129, 127, 257), (33, 31, 1025), (1, 300, 70),
    (31, 17, 700), (257, 1, 64), (130, 1100, 40), (600, 35, 40), (5, 1030, 2049), (64, 31, 6000), (129, 520, 2100),
]  # fmt: skip
SHAPES = shapes(3)[::3] + EDGES
BOUND = {6: 2.0**-24, 3: 3 * 2.0**-18, 1: 2.0**-8}  # of what terms leave out, as a share of |a| |b|, to first order
NORM = {6: 4e-7, 3: 1e-5, 1: 4e-3}  # relative Frobenius errors promised on normal data
TINY = float(np.finfo(np.float32).tiny)


def fitting(backend, shapes):
    """Those that the emulator, at 10 us an instruction of a tensor core, or a sanitizer can do in a second."""
    blocks = lambda m, n, k: -(-m // 64) * -(-n // 64) * -(-k // 32)  # noqa: E731
    return [shape for shape in shapes if not small(backend.name) or blocks(*shape) <= 24]


def in_parts(backend, x, terms):
    """x (rows, cols) or (members, rows, cols) in bf16 parts, by the kernel pack."""
    room = room_for_parts(*x.shape[-2:], _core.PARTS[terms], x.shape[0] if x.ndim == 3 else 1)
    run_kernel(backend, "pack", [x, room, None], *x.shape[-2:], numbers=[0, 0])
    return room


def factors(backend, a, b, terms):
    """Two operands as the products of a backend read them."""
    return [in_parts(backend, x, terms) for x in (a, b)] if terms and backend.unit_layout == "parts" else [a, b]


def product(backend, a, b, terms, role="nn", n=None, chain=()):
    m = a.shape[1] if role == "tn" else a.shape[0]
    n = n or (b.shape[0] if role == "nt" else b.shape[1])
    c = np.empty((m, n), np.float32)
    numbers = made_of(backend, _core.ROLES.index(role), terms)
    run_kernel(backend, "product", factors(backend, a, b, terms), m, n, [*chain, stage("store", out=c)], numbers)
    return c


def packed(backend, x, terms, transposed=0):
    """The planes of x or of its transpose."""
    room = room_for_planes(*(x.shape[::-1] if transposed else x.shape), _core.PARTS[terms])
    run_kernel(backend, "pack", [x, room, None], *x.shape, numbers=[transposed, 0])
    return room


def operands(seed, m, n, k):
    r = rng(seed)
    return r.normal(size=(m, k)).astype(np.float32), r.normal(size=(k, n)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------- parts
def nearest_bf16(x):
    """float64 rounded to bf16, ties to even, cut at the largest; what is below the smallest normal number then is 0."""
    quantum = np.maximum(np.frexp(x)[1], np.frexp(TINY)[1]) - 8
    rounded = np.ldexp(np.rint(np.ldexp(x, -quantum)), quantum)
    largest = np.ldexp(255.0, 120)
    return np.where(np.abs(rounded) < TINY, 0.0, np.clip(rounded, -largest, largest))


def parts_of(backend, x, terms):
    """(parts, rows, cols) as float64; what lies around them is zero."""
    if backend.unit_layout == "parts":
        parts, around = from_parts(in_parts(backend, x, terms))
        parts = parts[0]
    else:
        parts, around = from_planes(packed(backend, x, terms))
    assert not around.any()
    return parts


def test_parts_of_every_kind_of_float(unit):
    """All upper halves, with lower halves around each tie of the three roundings."""
    lower = (0, 1, 2, 0x7F, 0x80, 0x81, 0x17F, 0x180, 0x7F7F, 0x7FFF, 0x8000, 0x8001, 0x8080, 0xFF80, 0xFFFF)
    bits = (np.arange(2**16, dtype=np.uint32) << 16)[:, None] | np.array(lower, np.uint32)
    x = bits.view(np.float32).reshape(1024, -1)
    parts = parts_of(unit, x, 6)
    finite = np.isfinite(x)
    rest = np.where(finite, x, 0).astype(np.float64)
    for part in parts:
        want = nearest_bf16(rest)
        assert (part == want)[finite].all()
        rest = rest - want
    whole = np.abs(x) >= 2.0**23 * TINY  # then the last bit of x is a normal number
    assert (rest[whole & finite] == 0).all()
    assert (np.abs(rest) < 2 * TINY).all()
    assert np.isnan(parts[0][np.isnan(x)]).all()
    assert np.isinf(parts[0][np.isinf(x)]).all()


@pytest.mark.parametrize("terms", TERMS)
def test_parts_of_a_matrix_add_up_to_it(unit, terms):
    for rows, cols in shapes(2):
        rest = (x := rng(1).normal(size=(rows, cols)).astype(np.float32)).astype(np.float64)
        for part in parts_of(unit, x, terms):
            assert (part == nearest_bf16(rest)).all()
            rest = rest - part


@pytest.mark.parametrize("terms", TERMS)
def test_planes_hold_the_parts_of_a_matrix_and_of_its_transpose(cpu_unit, terms):
    for rows, cols in shapes(2):
        x = rng(1).normal(size=(rows, cols)).astype(np.float32)
        for transposed in (0, 1):
            parts, around = from_planes(packed(cpu_unit, x, terms, transposed))
            rest = (x.T if transposed else x).astype(np.float64)
            assert not around.any()
            for part in parts:
                assert (part == nearest_bf16(rest)).all()
                rest = rest - part


def test_pack_makes_planes_and_strips_at_once_behind_a_chain(cpu_unit):
    x, y = rng(2).normal(size=(2, 70, 131)).astype(np.float32)
    planes = room_for_planes(131, 70, 3)
    strips = np.full((-(-131 // cpu_unit.strip), 70, cpu_unit.strip), np.nan, np.float32)
    run_kernel(cpu_unit, "pack", [x, planes, Operand(strips, strip_cols=131)], 70, 131, [stage("add", operand=y)], [1, 0])
    assert (from_planes(planes)[0].sum(axis=0) == (x + y).T.astype(np.float64)).all()
    assert_same_bits(strips, strips_of(x + y, cpu_unit.strip))


# ---------------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize("terms", TERMS)
def test_product_of_terms_matches_oracle(unit, terms):
    for m, n, k in fitting(unit, SHAPES):
        a, b = operands(3, m, n, k)
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        got, want, scale = product(unit, a, b, terms), wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b)
        assert_close(got, want, depth=k, scale=scale * (1 + BOUND[terms] / (2 * np.sqrt(k) * 2.0**-24)))


@pytest.mark.parametrize("terms", TERMS)
def test_roles_and_layouts_of_terms_have_equal_bits(unit, terms):
    for m, n, k in fitting(unit, SHAPES):
        a, b = operands(4, m, n, k)
        want = product(unit, a, b, terms)
        at, bt = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
        assert_same_bits(product(unit, a, bt, terms, "nt"), want)
        assert_same_bits(product(unit, at, b, terms, "tn"), want)
        if unit.unit_layout == "parts":
            continue
        assert_same_bits(product(unit, a, packed(unit, b, terms), terms, n=n), want)
        assert_same_bits(product(unit, at, packed(unit, bt, terms, 1), terms, "tn", n=n), want)


@pytest.mark.parametrize("terms", TERMS)
def test_chain_after_terms_equals_chain_after_multiply_adds(unit, terms):
    """Small integers have exact products, so every stage sees the same bits; small depths do, and long ones in splits."""
    for m, n, k in fitting(unit, ((130, 270, 70), (65, 33, 4200), (65, 33, 600))):
        r = rng(5)
        a, b = (r.integers(-8, 9, size=shape).astype(np.float32) for shape in ((m, k), (k, n)))
        bias, column = r.normal(size=(2, 1, n)).astype(np.float32)
        other = r.normal(size=(m, n)).astype(np.float32)

        def results(count, a=a, b=b, bias=bias, column=column, other=other):
            c, *reduced = (np.empty((rows, b.shape[1]), np.float32) for rows in (len(a), 1, 1, 1, 1))
            chain = [
                stage("affine", a=column, b=bias), activation(unit, "tanh"), stage("scale", numbers=[0.5]),
                stage("dropout", a=counters(draws=3, seed=7), numbers=[0.3], random_op=2), stage("add", operand=other),
                stage("affine2", operand=other, a=column, b=bias, c=column), stage("store", out=c),
                stage("sum", out=reduced[0]), stage("dot", operand=other, out=reduced[1]),
                stage("moments", out=reduced[2], out2=reduced[3]),
                activation(unit, "gelu", kind="activate_grad", operand=other),
            ]  # fmt: skip
            return [product(unit, a, b, count, chain=chain), c, *reduced]

        for got, want in zip(results(terms), results(0), strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("terms", TERMS)
def test_members_have_products_of_their_own(unit, terms):
    a, b = rng(6).normal(size=(3, 40, 70)).astype(np.float32), rng(7).normal(size=(3, 70, 50)).astype(np.float32)
    c = np.empty((3, 40, 50), np.float32)
    run_kernel(unit, "product", factors(unit, a, b, terms), 40, 50, [stage("store", out=c)], made_of(unit, 0, terms))
    for got, x, y in zip(c, a, b, strict=True):
        assert_same_bits(got, product(unit, x, y, terms))


@pytest.mark.parametrize("terms", TERMS)
def test_what_is_not_finite_spoils_its_row_and_column_only(unit, terms):
    for m, n, k in ((1, 17, 5), (7, 65, 33), (66, 130, 700)):
        a, b = operands(8, m, n, k)
        want = product(unit, a, b, terms)
        a[m // 2, k // 2], b[k - 1, n // 3] = np.nan, -np.inf
        got = product(unit, a, b, terms)
        spoiled = (np.arange(m) == m // 2)[:, None] | (np.arange(n) == n // 3)
        assert not np.isfinite(got[spoiled]).any()
        assert np.isnan(got[m // 2]).all()
        assert_same_bits(got[~spoiled], want[~spoiled])


def test_the_largest_and_smallest_floats_stay_finite(unit):
    largest = np.finfo(np.float32).max
    assert_close(product(unit, np.array([[largest]]), np.array([[0.5]], np.float32), 6), np.array([[float(largest) / 2]]))
    denormals = np.full((3, 40), TINY / 2, np.float32)
    assert (product(unit, denormals, np.ones((40, 3), np.float32), 6) == 0).all()


# ------------------------------------------------------------------------------------------------------ errors
def normal(r, m, n, k):
    return r.normal(size=(m, k)), r.normal(size=(k, n))


def positive(r, m, n, k):
    return r.uniform(0, 1, size=(m, k)), r.uniform(0, 1, size=(k, n))


def error(got, want):
    """Relative, in the Frobenius norm."""
    return np.linalg.norm(got - want) / np.linalg.norm(want)


DEPTHS = (64, 200, 512, 1000, 2048, 4096, 16384)


def of_depths(backend, m, n):
    """Shapes of all depths, but of few rows and columns in the emulator."""
    return [(24, 40, k) for k in DEPTHS if k <= 2048] if small(backend.name) else [(m, n, k) for k in DEPTHS]


def torchs(a, b):
    """PyTorch's float32 product, or None where there is no PyTorch."""
    try:
        import torch
    except ImportError:
        if os.environ.get("DLCORE_REQUIRE_PEERS"):
            raise
        return None
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


@pytest.mark.parametrize("data", [normal, positive])
def test_six_terms_err_no_more_than_float32_products(unit, data):
    for m, n, k in of_depths(unit, 96, 80):
        a, b = (x.astype(np.float32) for x in data(rng(9), m, n, k))
        want = a.astype(np.float64) @ b.astype(np.float64)
        ours = error(product(unit, a, b, 6), want)
        for peer in (product(unit, a, b, 0), a @ b, torchs(a, b)):
            assert peer is None or ours <= error(peer, want), k


@pytest.mark.parametrize("terms", TERMS)
def test_scaling_rows_and_columns_scales_the_errors_with_them(unit, terms):
    """Powers of two from 2^-30 to 2^30 change no bit but those of the exponent."""
    for m, n, k in fitting(unit, ((96, 80, 64), (33, 65, 4096), (33, 65, 700))):
        r = rng(11)
        (a, b), rows, columns = operands(12, m, n, k), r.integers(-30, 31, (m, 1)), r.integers(-30, 31, (1, n))
        got = product(unit, np.ldexp(a, rows), np.ldexp(b, columns), terms)
        assert_same_bits(got, np.ldexp(product(unit, a, b, terms), rows + columns))


@pytest.mark.parametrize("terms", TERMS)
def test_errors_keep_their_promise_on_normal_data(unit, terms):
    for m, n, k in of_depths(unit, 64, 48):
        a, b = (x.astype(np.float32) for x in normal(rng(10), m, n, k))
        assert error(product(unit, a, b, terms), a.astype(np.float64) @ b) <= NORM[terms]


# ---------------------------------------------------------------------------------------------------- refusals
def views(terms, layout="row_major", ld=None, dtype="f32"):
    a, b = _core.View(0, rows=4, cols=40), _core.View(1, rows=40, cols=6, layout=layout, ld=ld, dtype=dtype)
    return _core.Instruction("product", 4, 6, [a, b], numbers=[0, terms])


REFUSED = {
    "two": (views(2), "product terms: expected 0, 1, 3 or 6, got 2"),
    "many": (views(7), r"product terms: expected an integer in \[0, 7\), got 7"),
    "strips": (views(6, "strips", 16), "product B: expected planes for 6 terms, got strips|strips of 8 columns, got 16"),
    "planes": (views(6, "planes", 2, "bf16"), "product B: expected 3 planes for 6 terms, got 2"),
    "four": (views(6, "planes", 4, "bf16"), "product B: expected 1 to 3 planes, got 4"),
    "no_terms": (views(0, "planes", 3, "bf16"), "product B: expected strips for 0 terms, got planes"),
    "reals": (views(6, "planes", 3), "product B: expected bf16, got f32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_unit_refuses_what_it_cannot_multiply(cpu_unit, name):
    instruction, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        cpu_unit.scratch(instruction)


def test_a_section_of_row_blocks_takes_no_product_of_terms(cpu_unit):
    a, b, c = _core.View(0, rows=128, cols=40), _core.View(1, "bf16", "planes", 40, 6, 3), _core.View(2, rows=128, cols=6)
    instruction = _core.Instruction("product", 128, 6, [a, b], [_core.Stage("store", out=c)], [0, 6])
    assert (cpu_unit.scratch(instruction), cpu_unit.depth(instruction)) == (0, -1)
    with pytest.raises(ValueError, match="expected a kernel that goes by rows, got product in larger panels or by"):
        cpu_unit.record([([instruction], False, 64, 0)])


def test_sets_without_a_unit_refuse_terms_and_planes(backend):
    if backend.unit:
        pytest.skip("has a matrix unit")
    real = "f32" if backend.real == "float32" else "f64"
    a, b = _core.View(0, real, rows=4, cols=40), _core.View(1, real, rows=40, cols=6)
    planes = _core.View(1, "bf16", "planes", 40, 6, 3)
    with pytest.raises(ValueError, match=r"product terms: expected 0, as .* has no matrix unit, got 6"):
        backend.scratch(_core.Instruction("product", 4, 6, [a, b], numbers=[0, 6]))
    with pytest.raises(ValueError, match=r"product B: expected no planes, as .* has no matrix unit"):
        backend.scratch(_core.Instruction("product", 4, 6, [a, planes], numbers=[0, 0]))


# ------------------------------------------------------------------------------------------------------ choice
def test_terms_are_chosen_by_shape_and_precision(cpu_isa, real):
    backend = _core.Backend(cpu_isa, real)
    for precision, terms in zip(_core.PRECISIONS, (6, 3, 1), strict=True):
        assert backend.terms(precision, 1, 2**40, 2**40) == 0
        assert backend.terms(precision, 2**40, 2**40, 1) == 0
        assert backend.terms(precision, 2**20, 2**20, 2**20) == (terms if backend.unit else 0)
        taken = [backend.terms(precision, n, n, 64) for n in range(1, 1025)]
        assert taken == sorted(taken)
        assert backend.terms(precision, 300, 900, 500) == backend.terms(precision, 900, 300, 500)
    with pytest.raises(ValueError, match=r"terms: expected positive m, n and k, got \(1, 0, 1\)"):
        backend.terms("bf16", 1, 0, 1)
    with pytest.raises(ValueError, match="precision: expected one of float32, bf16x3, bf16, got 'tf32'"):
        backend.terms("tf32", 1, 1, 1)
