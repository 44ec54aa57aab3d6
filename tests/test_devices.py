# SPDX-License-Identifier: Apache-2.0
"""Whole nets on another device than the CPU: equal masks, losses within the error model, memory that follows."""

import numpy as np
import pytest

import dlcore as dl
from checks import FACTOR, assert_close, rng
from dlcore import _core

ROWS, EPOCHS = 150, 3
U = float(np.finfo(np.float32).eps) / 2


def data(classes=0):
    r = rng(1)
    x = r.normal(size=(ROWS, 20)).astype(np.float32)
    return x, r.integers(0, classes, ROWS) if classes else x[:, :3] ** 2


def layers(kind, out=5):
    hidden = {
        "plain": lambda: [dl.Linear(20, 33), dl.Tanh()],
        "batch_norm": lambda: [dl.Linear(20, 33), dl.BatchNorm(33), dl.ReLU(), dl.Dropout(0.3)],
        "layer_norm": lambda: [dl.Linear(20, 33), dl.LayerNorm(33), dl.GELU(), dl.Dropout(0.2)],
        "residual": lambda: [dl.Linear(20, 33), dl.Residual(dl.Sequential(dl.SiLU(), dl.Linear(33, 33), dl.Dropout(0.1)))],
    }[kind]
    return [*hidden(), dl.Linear(33, out)]


def fitted(device, kind, classes, optimizer=None, **options):
    net = dl.Net(layers(kind, classes or 3), seed=3, device=device)
    x, y = data(classes)
    history = net.fit(x, y, epochs=EPOCHS, batch_size=64, optimizer=optimizer or dl.AdamW(0.01), verbose=0, **options)
    return net, [row["loss"] for row in history.rows]


@pytest.mark.parametrize("classes", [5, 0], ids=["classes", "values"])
@pytest.mark.parametrize("kind", ["plain", "batch_norm", "layer_norm", "residual"])
def test_fit_gives_the_losses_of_the_cpu(other_device, kind, classes):
    net, losses = fitted(other_device, kind, classes)
    reference, want = fitted("cpu", kind, classes)
    # Both are off by the roundings of all steps; each passes the net forth and back.
    steps, depth = EPOCHS * -(-ROWS // 64), 2 * len(reference.layer.config()["layers"]) * ROWS
    assert_close(np.float32(losses), want, depth=2 * steps * depth, scale=np.max(want))
    x, _ = data()
    assert_close(net.predict(x), reference.predict(x), depth=2 * steps * depth, scale=np.abs(reference.predict(x)).max())


def test_fit_with_everything_runs(other_device):
    options = {"validation": 0.2, "accumulate": 2, "sample_weight": np.linspace(1, 2, ROWS)}
    optimizers = [dl.SGD(0.01, momentum=0.9, nesterov=True, clip_norm=1.0) for _ in range(2)]
    (net, losses), (reference, want) = (
        fitted(d, "batch_norm", 5, o, **options) for d, o in zip((other_device, "cpu"), optimizers, strict=True)
    )
    assert_close(np.float32(losses), want, depth=4 * ROWS * EPOCHS * 8, scale=max(want))
    x, y = data(5)
    got, expected = net.evaluate(x, y), reference.evaluate(x, y)
    assert got["rows"] == expected["rows"]
    assert got["loss"] == pytest.approx(expected["loss"], rel=FACTOR * U * ROWS)


def test_dropout_masks_are_those_of_the_cpu(other_device):
    """With weights of one, what a dropped element adds is zero or its share."""
    found = []
    for device in (other_device, "cpu"):
        net = dl.Net([dl.Linear(100, 100, bias=False), dl.Dropout(0.4)], seed=9, device=device)
        net.parameters["0.weight"][...] = np.eye(100)
        step = net.compile(dl.MeanSquaredError(), dl.SGD(1.0), batch_size=70)
        step(np.ones((70, 100), np.float32), np.zeros((70, 100), np.float32))
        found.append(net.parameters["0.weight"].copy())
    np.testing.assert_array_equal(found[0] != 0, found[1] != 0)
    assert_close(found[0], found[1].astype(np.float64), depth=70)


@pytest.mark.parametrize("fuse", [True, False])
def test_unrecorded_steps_have_the_bits_of_recorded_ones(other_device, fuse):
    """One graph, or one kernel at a time."""
    x, y = data(5)
    found = []
    for record in (True, False):
        net = dl.Net(layers("batch_norm"), seed=3, device=other_device)
        step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), batch_size=64, fuse=fuse, record=record)
        found.append(([step(x[i : i + 64], y[i : i + 64]) for i in (0, 32, 64)], net.store.array.copy()))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_parameters_follow_what_is_written(other_device):
    net = dl.Net([dl.Linear(2, 1)], seed=0, device=other_device)
    x = np.array([[1, 2]], np.float32)
    net.parameters["0.weight"][...] = [[3], [4]]
    net.parameters["0.bias"][...] = 5
    assert net.predict(x) == 16
    step = net.compile(dl.MeanSquaredError(), dl.SGD(0.5), batch_size=1)
    assert step(x, np.array([[15]], np.float32)) == 1
    assert net.parameters["0.bias"] == 4
    net.parameters["0.bias"][...] = 15 - net.predict(x)[0] + net.parameters["0.bias"]
    assert step(x, np.array([[15]], np.float32)) == 0


def test_net_moves_with_its_optimizer(other_device):
    x, y = data(5)
    (moved, _), (stayed, _) = fitted("cpu", "plain", 5), fitted("cpu", "plain", 5)
    moved.to(other_device)
    assert moved.device == other_device
    losses = [net.fit(x, y, epochs=1, batch_size=64, verbose=0).rows[0]["loss"] for net in (moved, stayed)]
    assert_close(np.float32(losses[:1]), losses[1:], depth=4 * ROWS * 8)
    np.testing.assert_array_equal(moved.to("cpu").parameters["0.weight"], moved.parameters["0.weight"])


def test_saved_net_is_the_same_on_the_cpu(other_device, tmp_path):
    net, _ = fitted(other_device, "batch_norm", 5)
    net.save(tmp_path / "net.npz")
    loaded = dl.load(tmp_path / "net.npz")
    for name, value in {**net.parameters, **net.state}.items():
        np.testing.assert_array_equal({**loaded.parameters, **loaded.state}[name], value)
    assert loaded.training.updates == net.training.updates


def test_device_computes_in_float32_only(other_device):
    with pytest.raises(ValueError, match=f"real: expected float32 on {other_device}, got float64"):
        dl.Net([dl.Linear(2, 1)], dtype="float64", device=other_device)


def test_out_of_memory_names_arena_and_size(other_device):
    from dlcore import backend as backends

    with pytest.raises(MemoryError, match=f"{other_device}: scratch: allocate: no memory for {2**60} bytes"):
        backends.allocate_on(backends.get("float32", other_device), "scratch", 2**60)


def test_device_memory_is_not_an_array(other_device):
    arena = _core.Backend(other_device).allocate(64)
    with pytest.raises(BufferError):
        memoryview(arena)
    given, got = np.arange(16, dtype=np.float32), np.empty(16, np.float32)
    arena.write(given)
    arena.read(got)
    np.testing.assert_array_equal(got, given)
    with pytest.raises(ValueError, match=r"Arena.write: expected 64 bytes, got 60"):
        arena.write(given[:15])
