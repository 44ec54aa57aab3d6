# SPDX-License-Identifier: Apache-2.0
"""Values between kernels in 16 bits: how a chain rounds, stores and reads them, and which values of a net they are."""

import numpy as np
import pytest

import dlcore as dl
from checks import rng, shapes
from dlcore import _core, ops
from instructions import Operand, activation, assert_same_bits, room_for_parts, run_kernel, stage
from test_mma import ROWS, WIDTH, layers, trained
from test_terms import NORM, nearest_bf16

SHAPES = [*shapes(2)[::4], (1, 1), (65, 131)]
UNIT = {"bf16": 2.0**-9, "f16": 2.0**-11}  # roundoff


@pytest.fixture
def core(other_device):
    return _core.Backend(other_device)


@pytest.fixture(params=UNIT)
def half(request):
    return request.param


def rounded(x, half):
    """float32 numbers that 16 bits hold."""
    with np.errstate(over="ignore"):
        return (x.astype(np.float16) if half == "f16" else nearest_bf16(x.astype(np.float64))).astype(np.float32)


def room(rows, cols, half):
    made = room_for_parts(rows, cols, 1)
    return Operand(made.array, dtype=half, parts_of=made.parts_of)


def held(x, half):
    """x (rows, cols), numbers that 16 bits hold, as a kernel stores them."""
    made = room(*x.shape, half)
    made.array[...] = 0
    made.array[0, 0, :, : x.shape[1]] = x.astype(np.float16).view(np.uint16) if half == "f16" else x.view(np.uint32) >> 16
    return made


def values(operand):
    """The numbers of such an operand, and what lies behind its last column."""
    bits = operand.array[0, 0]
    x = bits.view(np.float16).astype(np.float32) if operand.dtype == "f16" else (bits.astype(np.uint32) << 16).view(np.float32)
    cols = operand.parts_of[1]
    return x[:, :cols], bits[:, cols:]


# ------------------------------------------------------------------------------------------------------ kernels
def test_stored_values_are_the_nearest(core, half):
    """All upper halves of a float, with lower halves around each tie; NaN and infinities stay what they are."""
    lower = (0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xEFFF, 0xF000, 0xFFFF)
    x = ((np.arange(2**16, dtype=np.uint32) << 16)[:, None] | np.array(lower, np.uint32)).view(np.float32).reshape(1024, -1)
    stored, on = room(*x.shape, half), np.empty_like(x)
    chain = [stage("store", out=stored, numbers=[1]), stage("store", out=on)]
    run_kernel(core, "pointwise", [x], *x.shape, chain)
    got, around = values(stored)
    finite = np.isfinite(x)
    np.testing.assert_array_equal(got[finite], rounded(np.where(finite, x, 0), half)[finite])
    np.testing.assert_array_equal(got[~finite], x[~finite])
    assert not around.any()
    np.testing.assert_array_equal(on, got)


def through_chain(core, x, y, z, a, b):
    """The value of a chain that reads all three, and its reductions."""
    rows, cols = x.parts_of if isinstance(x, Operand) else x.shape
    result, outs = np.empty((rows, cols), np.float32), [np.empty((1, cols), np.float32) for _ in range(4)]
    chain = [
        stage("add", operand=y),
        activation(core, "gelu", kind="activate_grad", operand=z, operand_scale=a),
        stage("affine2", operand=y, a=a, b=b, c=a),
        stage("sum", out=outs[0]),
        stage("dot", operand=z, operand_scale=a, operand_shift=b, out=outs[1]),
        stage("moments", out=outs[2], out2=outs[3]),
        stage("store", out=result),
    ]
    run_kernel(core, "pointwise", [x], rows, cols, chain)
    return [result, *outs]


def test_a_chain_reads_what_it_would_read_in_float32(core, half):
    for rows, cols in SHAPES:
        reals = [rounded(v, half) for v in rng(1).normal(size=(3, rows, cols)).astype(np.float32)]
        a, b = rng(2).normal(size=(2, 1, cols)).astype(np.float32)
        halves = [held(v, half) for v in reals]
        for got, want in zip(through_chain(core, *halves, a, b), through_chain(core, *reals, a, b), strict=True):
            assert_same_bits(got, want)


def reduced(core, x, *first):
    """Sums and moments of x behind the first stages."""
    outs = [np.empty((1, x.shape[1]), np.float32) for _ in range(3)]
    chain = [*first, stage("sum", out=outs[0]), stage("moments", out=outs[1], out2=outs[2])]
    run_kernel(core, "pointwise", [x], *x.shape, chain)
    return outs


def test_reductions_behind_a_store_take_what_it_stores(core, half):
    for rows, cols in SHAPES:
        x = rng(3).normal(size=(rows, cols)).astype(np.float32)
        store = stage("store", out=room(rows, cols, half), numbers=[1])
        for got, want in zip(reduced(core, x, store), reduced(core, rounded(x, half)), strict=True):
            assert_same_bits(got, want)


def through_layer_norm(core, x, dy, gamma, beta):
    rows, cols = x.parts_of if isinstance(x, Operand) else x.shape
    y, dx = np.empty((2, rows, cols), np.float32)
    mean, rstd, dgamma, dbeta = (np.empty(shape, np.float32) for shape in [(rows, 1)] * 2 + [(1, cols)] * 2)
    run_kernel(core, "layer_norm", [x, gamma, beta, mean, rstd], rows, cols, [stage("store", out=y)], [1e-5])
    operands = [dy, x, gamma, mean, rstd, dgamma, dbeta]
    run_kernel(core, "layer_norm_backward", operands, rows, cols, [stage("store", out=dx)])
    return y, dx, mean, rstd, dgamma, dbeta


def test_layer_norm_reads_what_it_would_read_in_float32(core, half):
    for rows, cols in SHAPES:
        reals = [rounded(v, half) for v in rng(4).normal(size=(2, rows, cols)).astype(np.float32)]
        columns = rng(5).normal(size=(2, 1, cols)).astype(np.float32)
        halves = [held(v, half) for v in reals]
        found = (through_layer_norm(core, *given, *columns) for given in (halves, reals))
        for got, want in zip(*found, strict=True):
            assert_same_bits(got, want)


# --------------------------------------------------------------------------------------------------------- nets
def stores(plan):
    """(kernel, value) of every store into scratch."""
    return [
        (n, s.operands["out"])
        for n in plan.instructions
        for s in n.chain
        if s.op is ops.Store and s.operands["out"].kind == "temporary"
    ]


def test_activations_and_their_gradients_are_stored_once_in_16_bits(other_device):
    *_, plan = trained(other_device, "bf16")
    float32 = {v.name for _, v in stores(plan) if v.dtype == "real"}
    assert len(float32) == 1  # the logits, which the loss reads
    halves = [v for _, v in stores(plan) if v.dtype == "bf16"]
    assert len(halves) >= 12
    assert all((v.layout, v.ld) == ("parts", 1) for v in halves)
    per_kernel = [[v.shape for n, v in stores(plan) if n is node] for node in plan.instructions]
    assert all(len(found) <= 2 for found in per_kernel)
    packed = [n.operands["x"].kind for n in plan.instructions if n.op is ops.Pack]
    assert packed == ["parameter"] * 3
    assert "z.bf16[" in str(plan) or "y.bf16[" in str(plan)


def test_scratch_holds_half_of_the_bytes(other_device):
    """Of a net whose values are 256 columns wide, beside float32; what remains in float32 are ten columns of logits."""
    deep = [layer for _ in range(6) for layer in (dl.Linear(256, 256), dl.BatchNorm(256), dl.GELU())]

    def values(precision, gemm):
        net = dl.Net([*deep_copy(deep), dl.Linear(256, 10)], device=other_device, precision=precision, gemm=gemm)
        plan = net.plan(8192)
        return plan, sum(b.size for b in plan.blocks if getattr(b.key, "rows", 0) == 8192)

    (halves, half_bytes), (reals, real_bytes) = values("bf16", "mma"), values("float32", "simt")
    logits = 8192 * 10 * 4
    assert half_bytes - logits <= (real_bytes - logits) / 2 + 8192 * 16 * 2
    assert halves.scratch_bytes < 0.55 * reals.scratch_bytes
    assert halves.bytes < 0.6 * reals.bytes


def deep_copy(found):
    return [dl.layers.from_config(layer.config()) for layer in found]


def test_steps_err_by_the_roundoff_of_what_is_stored(other_device):
    """Beside float64: products err as they may, and each stored value by its roundoff; all of it may add up."""
    losses, out, plan = trained(other_device, "bf16")
    want, want_out, _ = trained("cpu", gemm="auto", dtype="float64")
    products = sum(n.op is ops.Product for n in plan.instructions)
    allowed = 3 * (products * NORM[1] + len(stores(plan)) * UNIT["bf16"])
    assert 0 < np.linalg.norm(losses - want) <= allowed * np.linalg.norm(want)
    assert 0 < np.linalg.norm(out - want_out) <= allowed * np.linalg.norm(want_out)


@pytest.mark.parametrize("loss", [dl.MeanSquaredError, dl.SoftmaxCrossEntropy])
def test_accumulated_batches_fused_and_unfused_are_the_same(other_device, loss):
    x, y = rng(6).normal(size=(ROWS, WIDTH)).astype(np.float32), rng(7).integers(0, 5, ROWS)
    target = y if loss is dl.SoftmaxCrossEntropy else np.eye(5, dtype=np.float32)[y]
    found = []
    for threads in (1, 2):
        net = dl.Net(layers(), seed=3, device=other_device, precision="bf16", gemm="mma", threads=threads)
        history = net.fit(x, target, loss=loss(), optimizer=dl.AdamW(1e-3), epochs=2, batch_size=32, accumulate=2, verbose=0)
        found.append((history["loss"], net.predict(x), net.evaluate(x, target)["loss"]))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


# ----------------------------------------------------------------------------------------------------- refusals
def one_part(dtype="bf16", ld=1, rows=4, cols=6, arena=0):
    return _core.View(arena, dtype, "parts", rows, cols, ld)


OUT = _core.Stage("store", out=_core.View(9, rows=4, cols=6))
REFUSED = {
    "two": (lambda: _core.Instruction("pointwise", 4, 6, [one_part(ld=2)], [OUT]), "x: expected 1 of the parts, got 2"),
    "f16_of_two": (lambda: _core.Instruction("pointwise", 4, 6, [one_part("f16", 2)], [OUT]), "x: expected bf16, got f16"),
    "softmax": (lambda: _core.Instruction("softmax", 4, 6, [one_part()], [OUT]), "x: expected f32, got bf16"),
    "goes_on": (
        lambda: _core.Instruction(
            "pointwise", 4, 6, [one_part()], [_core.Stage("store", out=_core.View(9, rows=4, cols=6), numbers=[1])]
        ),
        "out: expected one part for a value that goes on as it, got row_major",
    ),
    "mixed": (
        lambda: _core.Instruction(
            "product", 4, 6, [one_part(cols=40), one_part("f16", rows=40, arena=1)], [OUT], [0, 1]
        ),
        "B: expected bf16 as A, got f16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_halves_that_do_not_fit_are_refused(core, name):
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        core.scratch(make())


def test_the_cpu_takes_no_halves(cpu_isa):
    with pytest.raises(ValueError, match="x: expected "):
        _core.Backend(cpu_isa).scratch(_core.Instruction("pointwise", 4, 6, [one_part()], [OUT]))
