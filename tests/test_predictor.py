# SPDX-License-Identifier: Apache-2.0
"""Predictors: the bits of the net as it was, from weights that were packed once."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlcore as dl
from checks import small
from dlcore import _core
from dlcore import backend as backends
from dlcore.data import TargetScaler
from dlcore.ops import Pack
from dlcore.plan.snapshot import KIND
from dlcore.train.evaluation import prediction_plan
from instructions import assert_same_bits

NETS = {
    "plain": lambda: [dl.Linear(5, 7), dl.ReLU(), dl.Linear(7, 3)],
    "norms": lambda: [dl.Linear(5, 33), dl.BatchNorm(33), dl.GELU(), dl.Dropout(0.3), dl.Linear(33, 16), dl.LayerNorm(16)],
    "residual": lambda: [
        dl.BatchNorm(5), dl.Linear(5, 64), dl.Residual(dl.Sequential(dl.Linear(64, 64), dl.BatchNorm(64), dl.Tanh())),
        dl.Linear(64, 2, bias=False),
    ],
    "alone": lambda: [dl.Linear(5, 1)],
}  # fmt: skip


def rows(count, seed=0):
    return np.random.default_rng([seed, count]).normal(size=(count, 5)).astype(np.float32)


def trained(layers, **options):
    net = dl.Net(layers, seed=3, **options)
    x = rows(64)
    net.fit(x, x[:, : net.out_features].repeat(4, axis=1)[:, : net.out_features], epochs=2, batch_size=16, verbose=0)
    return net


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("precision", ["float32", "bf16x3", "bf16"])
def test_it_has_the_bits_of_the_net(device, name, precision):
    net = trained(NETS[name](), device=device, precision=precision)
    predictor = net.predictor()
    for count in (1, 2, 5, 64, 300) if small(device) else (1, 2, 5, 64, 300, 1030, 4100):
        assert_same_bits(predictor.predict(rows(count)), net.predict(rows(count)))
        assert_same_bits(predictor.predict_proba(rows(count)), net.predict_proba(rows(count)))


@pytest.mark.parametrize("precision", ["float32", "bf16x3", "bf16", "float16"])
def test_it_holds_the_parts_of_weights_for_tensor_cores(other_device, precision):
    net = dl.Net(NETS["residual"](), device=other_device, gemm="mma", precision=precision)
    predictor = net.predictor()
    for count in (1, 70):
        assert_same_bits(predictor.predict(rows(count)), net.predict(rows(count)))
    assert not any(n.op is Pack and n.operands["x"].kind != "temporary"
                   for n in prediction_plan(predictor, rows(1), softmax=False).instructions)  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 5, 70, 600, 1100])
def test_it_has_the_bits_of_the_net_where_weights_are_far(count):
    """Above 2 MB few rows stream the weights, in columns and splits of another width."""
    net = dl.Net([dl.Linear(5, 1030), dl.ReLU(), dl.Linear(1030, 1030), dl.ReLU(), dl.Linear(1030, 10)], threads=2)
    assert_same_bits(net.predictor().predict(rows(count)), net.predict(rows(count)))


def test_it_has_the_bits_of_the_net_in_float64():
    net = trained(NETS["norms"](), dtype="float64")
    for count in (1, 64, 1030):
        assert_same_bits(net.predictor().predict(rows(count)), net.predict(rows(count)))


@pytest.mark.parametrize("precision", ["float32", "bf16x3", "bf16"])
def test_planes_for_a_matrix_unit_and_strips_for_few_rows_are_both_held(cpu_unit, monkeypatch, precision):
    monkeypatch.setattr(backends, "get", lambda dtype="float32", device="cpu": _core.Backend(cpu_unit.isa, dtype))
    net = dl.Net([dl.Linear(5, 700), dl.ReLU(), dl.Linear(700, 700), dl.ReLU(), dl.Linear(700, 2)], precision=precision)
    predictor = net.predictor()
    for count in (1, 200, 700, 1100):
        assert_same_bits(predictor.predict(rows(count)), net.predict(rows(count)))
        assert not any(n.op is Pack for n in prediction_plan(predictor, rows(count), softmax=False).instructions)


def test_it_reads_nothing_else_and_makes_nothing_again(device):
    net = trained(NETS["residual"](), device=device)
    predictor = net.predictor()
    held = predictor.nbytes
    for count in (1, 64, 600, 1100):
        plan = prediction_plan(predictor, rows(count), softmax=False)
        assert {n.op.__name__ for n in plan.instructions} <= {"Gather", "Product", "Pointwise"}
        assert KIND in plan.arenas and "parameters" not in plan.arenas
    assert predictor.nbytes == held <= 2 * net.store.array.nbytes


def test_later_training_does_not_change_it(device):
    net = trained(NETS["norms"](), device=device)
    predictor, x, more = net.predictor(), rows(9), rows(70)
    before, more_before = net.predict(x), net.predict(more)
    net.fit(rows(64), np.zeros((64, 16)), epochs=1, batch_size=32, verbose=0)
    assert not (net.predict(x) == before).all()
    for value in net.parameters.values():
        value[...] = 0
    for value in net.state.values():
        value[...] = 7
    assert_same_bits(predictor.predict(x), before)
    assert_same_bits(predictor.predict(more), more_before)  # of a plan that is made only now
    assert_same_bits(net.predictor().predict(x), net.predict(x))


def test_input_and_target_units_stay(device):
    net = trained(NETS["plain"](), device=device)
    net.normalize_inputs(np.arange(1, 6), np.ones(5))
    net.target_scaler = TargetScaler().fit(rows(20)[:, :3])
    expected, predictor = net.predict(rows(8)), net.predictor()
    net.normalize_inputs(np.ones(5), np.zeros(5))
    assert_same_bits(predictor.predict(rows(8)), expected)


def test_threads_share_one():
    net = trained(NETS["residual"](), threads=1)
    predictor = net.predictor(threads=2)
    assert (net.threads, predictor.threads) == (1, 2)
    batches = [rows(count, seed) for seed in range(4) for count in (1, 70, 1100)]
    expected = [net.predict(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, want in zip(pool.map(predictor.predict, batches), expected, strict=True):
            assert_same_bits(found, want)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda p: p.predict(rows(2)[:, :4]), ValueError, "expected 5 columns"),
        (lambda p: p.predict(np.full((2, 5), np.nan)), ValueError, "finite"),
        (lambda p: p.predict([["a"] * 5]), TypeError, "expected numbers"),
    ],
)
def test_it_refuses_what_a_net_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call(dl.Net(NETS["plain"]()).predictor())


@pytest.mark.parametrize("kind", ["net", "predictor"])
@pytest.mark.parametrize("call", ["predict", "predict_proba"])
def test_outputs_go_where_they_are_wanted(device, kind, call):
    net = trained(NETS["norms"](), device=device)
    predict = getattr(net if kind == "net" else net.predictor(), call)
    for count in (1, 64, 300):
        expected, out = predict(rows(count)), np.full((count, 16), np.nan, np.float32)
        for x in (rows(count), rows(count), rows(count).tolist()):
            out[...] = np.nan
            assert predict(x, out=out) is out
            assert_same_bits(out, expected)


def test_outputs_in_the_units_of_the_target_go_where_they_are_wanted():
    net = trained(NETS["plain"]())
    net.target_scaler = TargetScaler().fit(rows(20)[:, :3])
    out = np.empty((8, 3), np.float32)
    assert net.predict(rows(8), out=out) is out
    assert_same_bits(out, net.predict(rows(8)))


def test_a_row_is_predicted_without_an_allocation():
    """Python's allocator and NumPy's; outputs of 1 MB would show."""
    predictor, x, out = dl.Net([dl.Linear(5, 1 << 18)]).predictor(), rows(1), np.empty((1, 1 << 18), np.float32)
    predictor.predict(x, out=out)
    tracemalloc.start()
    try:
        predictor.predict(x, out=out)
        without = tracemalloc.get_traced_memory()[1]
        predictor.predict(x)
        assert without < 4096 < out.nbytes <= tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


X = rows(2)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        ([[0.0] * 3] * 2, TypeError, "predict: out: expected a NumPy array or None, got"),
        (
            np.empty((2, 4), np.float32),
            ValueError,
            r"predict: out: expected float32 of shape \(2, 3\), got float32 of shape \(2, 4\)",
        ),
        (np.empty((2, 3)), ValueError, "got float64 of shape"),
        (np.empty((3, 2), np.float32).T, ValueError, "C-contiguous"),
        (np.broadcast_to(np.float32(0), (2, 3)), ValueError, "may be written"),
        (X.reshape(-1)[:6].reshape(2, 3), ValueError, "memory apart from x"),
    ],
)
def test_an_array_that_cannot_take_outputs_is_refused(out, error, match, again):
    predictor = dl.Net(NETS["plain"]()).predictor()
    if again:
        predictor.predict(X)
    with pytest.raises(error, match=match):
        predictor.predict(X, out=out)
    assert_same_bits(predictor.predict(X), predictor.predict(X.copy()))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_threads_are_checked(threads):
    with pytest.raises((ValueError, TypeError), match="predictor: threads"):
        dl.Net(NETS["plain"]()).predictor(threads=threads)


def test_a_device_without_room_says_so(emulator):
    net = dl.Net([dl.Linear(256, 256)], device="emulated")
    emulator.emulator_set("limit", emulator.emulator_count("used") + (1 << 16))
    with pytest.raises(MemoryError, match="snapshot"):
        net.predictor()
