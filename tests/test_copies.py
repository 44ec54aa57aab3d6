# SPDX-License-Identifier: Apache-2.0
"""Parts of weights that the update writes again: their bits, and that nets train with them as without."""

import numpy as np
import pytest

import dlcore as dl
from cases import counters
from checks import rng
from dlcore import _core, ops, plan
from instructions import Operand, from_parts, run_kernel
from test_halves import held, rounded
from test_terms import in_parts
from test_update_kernels import RULES, hyper_row, states, update_numbers

KINDS = {"bf16": 1, "bf16x3": 2, "float32": 3, "float16": 1}  # parts by precision


@pytest.fixture
def core(other_device):
    return _core.Backend(other_device)


# ------------------------------------------------------------------------------------------------------ kernel
@pytest.mark.parametrize("precision", KINDS)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_update_writes_the_parts_of_its_weights(core, rule, precision):
    parts, half = KINDS[precision], precision == "float16"
    segments = {(0, 5 * 16): (5, 16), (80, 7): None, (96, 700 * 8): (700, 8), (5703, 16): None}  # offset, size: matrix
    size = 5720
    w, g = rng(1).normal(size=(2, 1, size)).astype(np.float32)
    copies = np.full((1, parts * size), 0xABCD, np.uint16)
    operand = Operand(copies, dtype="f16" if half else "bf16", aligned=True)
    hyper = np.stack([hyper_row(1, 0.1, **RULES[rule])])
    given = [w, g, *states(core, rule, size, np.float32), np.array([[0.5, 1.0]]), hyper, counters(), None, operand]
    run_kernel(core, "update", given, 0, 0, numbers=update_numbers(core, rule, [(*s, 0, 1) for s in segments]))
    written = np.zeros(parts * size, bool)
    for (offset, count), shape in segments.items():
        if shape is None:
            continue
        matrix = w[0, offset : offset + count].reshape(shape)
        want = held(rounded(matrix, "f16"), "f16") if half else in_parts(core, matrix, {1: 1, 2: 3, 3: 6}[parts])
        place = slice(parts * offset, parts * (offset + count))
        np.testing.assert_array_equal(copies[0, place].reshape(parts, *shape), want.array[0])
        assert half or np.abs(from_parts(want)[0][0].sum(axis=0) - matrix).max() <= 2.0 ** (-8 * parts) * np.abs(matrix).max()
        written[place] = True
    assert (copies[0, ~written] == 0xABCD).all()


REFUSED = {
    "dtype": ({"dtype": "f32"}, "copies: expected bf16, or one part of f16, got f32"),
    "halves": ({"dtype": "f16", "cols": 20}, "copies: expected bf16, or one part of f16, got f16"),
    "columns": ({"cols": 25}, "copies: expected 1 to 3 times 10 columns, got 25"),
    "many": ({"cols": 40}, "copies: expected 1 to 3 times 10 columns, got 40"),
    "offset": ({"offset": 8}, "copies: expected to begin at a multiple of 16 bytes, got 8"),
}


def updating(core, **view):
    flat = [_core.View(i, rows=1, cols=10) for i in range(2)]
    tables = [_core.View(2, "f64", rows=1, cols=2), _core.View(3, "f64", rows=3, cols=_core.HYPER)]
    counting = _core.View(4, "i64", rows=1, cols=_core.COUNTERS)
    copies = _core.View(**{"arena": 5, "dtype": "bf16", "rows": 1, "cols": 10, **view})
    views = [*flat, _core.View(), _core.View(), *tables, counting, _core.View(), copies]
    return _core.Instruction("update", 0, 0, views, numbers=update_numbers(core, "sgd", [(0, 10, 0, 1)]))


@pytest.mark.parametrize("name", REFUSED)
def test_copies_that_do_not_fit_are_refused(core, name):
    view, match = REFUSED[name]
    assert core.scratch(updating(core)) == 0
    with pytest.raises(ValueError, match=match):
        core.scratch(updating(core, **view))


def test_the_cpu_takes_no_copies(cpu_isa):
    backend = _core.Backend(cpu_isa)
    with pytest.raises(ValueError, match=r"copies: expected none, as .* reads no parts, got a view"):
        backend.scratch(updating(backend))


# --------------------------------------------------------------------------------------------------------- nets
def make_net(device, precision):
    layers = [dl.Linear(20, 40), dl.BatchNorm(40), dl.ReLU(), dl.Linear(40, 24), dl.Tanh(), dl.Linear(24, 5)]
    return dl.Net(layers, seed=1, device=device, precision=precision, gemm="mma", threads=2)


X, Y = rng(2).normal(size=(130, 20)).astype(np.float32), rng(3).integers(0, 5, 130)


def trained(device, precision):
    """Losses and weights after: a loop of steps with a change of the weights between them, fit, and fit with some frozen."""
    net = make_net(device, precision)
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1, momentum=0.9), 64)
    losses = [step(X[:64], Y[:64]), step(X[64:128], Y[64:128])]
    net.parameters["0.weight"][...] *= 0.5
    losses += [step(X[:64], Y[:64]), step(X[64:128], Y[64:128])]
    options = {"batch_size": 32, "verbose": 0}
    losses += net.fit(X, Y, optimizer=dl.AdamW(1e-2), epochs=2, validation=0.2, **options)["loss"]
    losses += net.fit(X, Y, epochs=2, accumulate=2, **options)["loss"]
    return losses, {n: a.copy() for n, a in net.parameters.items()}, step.plan


@pytest.mark.parametrize("precision", KINDS)
def test_nets_train_with_copies_as_without(other_device, precision, monkeypatch):
    losses, weights, found = trained(other_device, precision)
    nodes = list(found.instructions)
    assert [(n.section, n.operands["x"].cols) for n in nodes if n.op is ops.Pack] == [
        ("weights", 40), ("weights", 24), ("gradients", 5),
    ]  # fmt: skip
    assert found.parts == ("weights", "gradients", "update")
    with monkeypatch.context() as patch:
        patch.setattr(plan, "keep_copies", lambda nodes: nodes)
        want, want_weights, other = trained(other_device, precision)
    assert other.parts == ("gradients", "update")
    assert losses == want
    for path, value in want_weights.items():
        np.testing.assert_array_equal(weights[path], value)


def test_a_step_without_copies_has_no_part_for_them(other_device):
    net = dl.Net([dl.Linear(20, 40), dl.ReLU(), dl.Linear(40, 8)], device=other_device, gemm="simt")
    assert net.plan(32).parts == ("gradients", "update")
