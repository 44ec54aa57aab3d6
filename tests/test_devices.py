# SPDX-License-Identifier: Apache-2.0
"""Whole nets on another device than the CPU: equal masks, losses within the error model, memory that follows."""

import gc
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise

import numpy as np
import pytest

import dlcore as dl
from checks import FACTOR, assert_close, rng
from dlcore import _core
from dlcore import backend as backends
from dlcore.plan.plan import Bound
from dlcore.train import loop

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
    wanted = rf"^{other_device}: scratch: cudaMalloc: expected 1.15 EB of memory, got .* [TG]B free$"
    with pytest.raises(MemoryError, match=wanted):
        backends.allocate_on(backends.get("float32", other_device), "scratch", 2**60)


def test_device_memory_is_not_an_array(other_device):
    arena = _core.Backend(other_device).allocate(64)
    with pytest.raises(BufferError):
        memoryview(arena)
    given, got = np.arange(16, dtype=np.float32), np.empty(16, np.float32)
    arena.write(given)
    arena.read(got)
    np.testing.assert_array_equal(got, given)
    arena.write(given[:2], 8)
    arena.read(got[4:], 0)
    assert got[4:8].tolist() == [0, 1, 0, 1]
    for offset in (4, -4, 2**62):
        with pytest.raises(ValueError, match=f"Arena.write: expected at most 64 bytes, got 64 at {offset}"):
            arena.write(given, offset)


# ------------------------------------------------------------------------------------------- several devices
def test_devices_have_names(other_device, second_device):
    assert backends.select_device(f"{other_device}:0") == other_device
    assert dl.Net([dl.Linear(2, 1)], device=second_device).device == second_device
    with pytest.raises(RuntimeError, match=rf"got '{other_device}:99' \(there are \d+, {other_device}:0 to {other_device}:"):
        dl.Net([dl.Linear(2, 1)], device=f"{other_device}:99")
    for wrong in (f"{other_device}:", f"{other_device}:-1", f"{other_device}:x", "gpu:1", None, 1):
        with pytest.raises(ValueError, match="device: expected one of 'auto', 'cpu', 'cuda', got"):
            backends.select_device(wrong)


def test_devices_have_equal_bits(other_device, second_device):
    (first, losses), (second, again) = (fitted(d, "batch_norm", 5) for d in (other_device, second_device))
    assert losses == again
    np.testing.assert_array_equal(first.store.array, second.store.array)
    np.testing.assert_array_equal(first.to(second_device).predict(data()[0]), second.to(other_device).predict(data()[0]))


def test_devices_run_at_the_same_time(other_device, second_device):
    want = fitted("cpu", "layer_norm", 5)[1]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda d: fitted(d, "layer_norm", 5)[1], [other_device, second_device] * 2))
    assert all(losses == found[0] for losses in found)
    assert_close(np.float32(found[0]), want, depth=4 * ROWS * 8 * EPOCHS, scale=max(want))


def test_devices_refuse_what_lies_elsewhere(other_device, second_device):
    here, there = (_core.Backend(name) for name in (other_device, second_device))
    view = _core.View(0, "f32", rows=1, cols=4)
    copy = _core.Instruction("pointwise", 1, 4, [view], [_core.Stage("store", out=view)])
    recording = here.record([([copy], False, 0, 0)])
    here.run([([recording], 1)], [here.allocate(16)])
    with pytest.raises(TypeError, match="got an arena of another device"):
        here.run([([recording], 1)], [there.allocate(16)])
    with pytest.raises(ValueError, match=f"expected recordings of {second_device}, got one of another device"):
        there.run([([recording], 1)], [there.allocate(16)])


def test_memory_lies_on_its_device_and_the_current_one_stays(emulator):
    gc.collect()
    before = []
    for device in (0, 1):
        emulator.emulator_set("device", device)
        before.append(emulator.emulator_count("used"))
    net, _ = fitted("emulated", "plain", 5)  # while the second is the current one
    assert emulator.emulator_count("device") == 1
    assert emulator.emulator_count("used") == before[1]
    emulator.emulator_set("device", 0)
    assert emulator.emulator_count("used") > before[0]
    del net
    gc.collect()
    assert emulator.emulator_count("used") == before[0]


# ----------------------------------------------------------------------------------- how the device is worked
@pytest.mark.parametrize(("accumulate", "replays"), [(1, 5), (2, 7)])
def test_step_is_captured_once_and_an_epoch_is_a_call_for_each_batch_size(other_device, monkeypatch, accumulate, replays):
    """What the emulator counts is not known of a GPU."""
    crossings, counts = [], ("captures", "launches", "replays") if other_device == "emulated" else ()
    run = Bound.run
    monkeypatch.setattr(Bound, "run", lambda self, *args: (crossings.append(self), run(self, *args))[1])
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e9)
    (x, y), net, seen = data(5), dl.Net(layers("batch_norm"), seed=3, device=other_device), []

    def look(net, row):
        seen.append({"crossings": len(crossings), **{what: _core.emulator_count(what) for what in counts}})

    net.fit(x, y, epochs=4, batch_size=32, accumulate=accumulate, callbacks=[look], verbose=0)  # 4 of 32, one of 22
    for before, after in pairwise(seen):
        assert after["crossings"] - before["crossings"] == 2
        if counts:
            assert after["captures"] == before["captures"]
            assert after["launches"] == before["launches"]  # only graphs are
            assert after["replays"] - before["replays"] == replays


def test_kernels_are_loaded_before_a_capture(emulator):
    """A capture of the emulator refuses a kernel that nobody has asked for."""
    (x, y), before = data(5), emulator.emulator_count("loads")
    emulator.emulator_set("loads", 0)
    dl.Net(layers("batch_norm"), seed=3, device="emulated").fit(x, y, batch_size=32, verbose=0)
    assert emulator.emulator_count("loads") > before


def test_learning_digits_is_the_same_on_every_device(other_device):
    """The same masks and order: after the same steps the losses differ by rounding only."""
    digits = dl.data.digits()
    x, y = digits.x[:600].astype(np.uint8), digits.y[:600]
    hidden = lambda n, m: [dl.Linear(n, m), dl.BatchNorm(m), dl.ReLU(), dl.Dropout(0.3)]  # noqa: E731
    found = []
    for device in ("cpu", other_device):
        net = dl.Net([*hidden(64, 48), *hidden(48, 32), dl.Linear(32, 10)], seed=5, device=device)
        net.normalize_inputs(np.full(64, 1 / 16), np.full(64, -0.5))
        history = net.fit(x, y, optimizer=dl.SGD(0.1, momentum=0.9), epochs=2, batch_size=100, validation=0.1, verbose=0)
        found.append((np.float32([history["loss"], history["validation_loss"]]), net.predict(x[:50])))
    steps, depth = 2 * 6, 2 * 3 * 100
    assert_close(found[1][0], found[0][0].astype(np.float64), depth=2 * steps * depth)
    assert_close(found[1][1], found[0][1].astype(np.float64), depth=2 * steps * depth)
    assert found[0][0][0, 1] < 0.7 * found[0][0][0, 0]


def test_failing_kernel_has_a_name_when_unrecorded(emulator):
    x, y = data(5)
    step = dl.Net(layers("plain"), device="emulated").compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), 64, record=False)
    before = emulator.emulator_count("launches")
    step(x[:64], y[:64])
    names = []
    for launch in range(emulator.emulator_count("launches") - before):
        emulator.emulator_set("launches", launch)
        with pytest.raises(RuntimeError) as caught:
            step(x[:64], y[:64])
        names += re.match(
            r"run: instruction 0 (\w+ \(\d+, \d+\)), launch \d: cuda: cudaLaunchKernel", str(caught.value)
        ).groups()
    want = [f"{i.kernel} ({i.rows}, {i.cols})" for i in step.plan.instructions.values()]
    assert [name for name, _ in groupby(names)] == [name for name, _ in groupby(want)]
    assert step(x[:64], y[:64]) > 0
