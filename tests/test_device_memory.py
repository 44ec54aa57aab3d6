# SPDX-License-Identifier: Apache-2.0
"""A device's memory: what happens when there is none, and data sets that are streamed through what there is."""

import gc
import re

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from dlcore import _core
from dlcore import backend as backends
from dlcore.train import feed
from instructions import Memory, build, stage

COLUMNS, CLASSES = 20, 5
SITES = "parameters|gradients|optimizer\\d|scratch|x|y|weight|run: (instructions|tables|order|hyper|results|constants|x|y|out)"


def data(rows, dtype="float32", seed=1):
    r = rng(seed)
    x = r.integers(0, 256, (rows, COLUMNS)) if dtype == "uint8" else r.normal(size=(rows, COLUMNS))
    return x.astype(dtype), r.integers(0, CLASSES, rows)


def test_pinned_memory_is_read_when_a_run_has_failed(emulator):
    """What is copied from there is on its way when a launch fails, and the caller may write again."""
    core, memory, x = _core.Backend("emulated"), Memory(), np.ones((4, 64), np.float32)
    instruction = build(core, memory, "pointwise", [x], 4, 64, [stage("store", out=np.empty_like(x))])
    program = [([core.record([([instruction], False, 0, 0)])], 1)]
    pinned = core.feed(memory.bases[0].nbytes)
    bases = [np.frombuffer(pinned, np.uint8), *memory.bases[1:]]
    prepared = core.prepare(program, bases)
    prepared.run(2)  # streams are as late as can be from here on
    emulator.emulator_set("launches", 0)
    with pytest.raises(RuntimeError, match="cudaLaunchKernel"):
        prepared.run(2)
    assert emulator.emulator_count("waiting") == 0


def make(device="emulated", threads=1):
    layers = [dl.Linear(COLUMNS, 24), dl.BatchNorm(24), dl.ReLU(), dl.Dropout(0.2), dl.Linear(24, CLASSES)]
    return dl.Net(layers, seed=3, device=device, threads=threads)


def state(net):
    """Everything that training changes."""
    arrays = {**net.parameters, **net.state, **(net.training.arrays if net.training else {})}
    return net.training, {name: a.copy() for name, a in arrays.items()}


def assert_unchanged(net, before):
    training, arrays = state(net)
    assert training is before[0]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[1][name], err_msg=name)


def fail_each(emulator, before, act):
    """act(what before() made), once for each allocation that it asks for, which fails: (subject, the error or None)."""
    site = 0
    while True:
        subject = before()
        asked = emulator.emulator_count("allocations")
        emulator.emulator_set("allocations", site)
        try:
            act(subject)
            error = None
        except MemoryError as caught:
            error = caught
        emulator.emulator_set("allocations", -1)
        if error is None and emulator.emulator_count("allocations") - asked <= site:
            return
        yield subject, error
        site += 1


# ------------------------------------------------------------------------------------------------- no memory
@pytest.fixture
def free(emulator):
    """Set the bytes that are free on the first device."""
    gc.collect()
    return lambda size: emulator.emulator_set("limit", emulator.emulator_count("used") + size)


def test_fit_without_memory_changes_nothing(emulator):
    (x, y), (more, classes) = data(130), data(150, seed=2)
    weight, kept = np.linspace(1, 2, 150), {}
    fit = lambda net: net.fit(  # noqa: E731
        more, classes, optimizer=dl.Adam(0.01), epochs=2, batch_size=64, validation=0.2, sample_weight=weight, verbose=0
    )

    def trained():
        net = make()
        net.fit(x, y, optimizer=dl.SGD(0.1, momentum=0.9), epochs=1, batch_size=32, verbose=0)
        kept["state"], kept["outputs"] = state(net), net.predict(x)
        return net

    want = trained()
    fit(want)
    texts = []
    for net, error in fail_each(emulator, trained, fit):
        if error is None:  # the data set is streamed then
            np.testing.assert_array_equal(net.store.array, want.store.array)
            continue
        texts.append(str(error))
        assert_unchanged(net, kept["state"])
        np.testing.assert_array_equal(net.predict(x), kept["outputs"])
        fit(net)
        np.testing.assert_array_equal(net.store.array, want.store.array)
    assert len(texts) > 15
    for text in texts:
        assert re.match(rf"(emulated: )?({SITES}): \w+: expected .* memory, got .* free$", text), text


def test_step_and_predict_without_memory_can_be_called_again(emulator):
    x, y = data(64)
    compiled = lambda net: net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), 64)  # noqa: E731
    want = make()
    first = compiled(want)(x, y)
    for step, error in fail_each(emulator, lambda: compiled(make()), lambda step: step(x, y)):
        assert error is not None
        assert step(x, y) == first
        np.testing.assert_array_equal(step.training.net.store.array, want.store.array)
    outputs = make().predict(x)
    for net, error in fail_each(emulator, make, lambda net: net.predict(x)):
        assert error is not None
        np.testing.assert_array_equal(net.predict(x), outputs)


def test_net_stays_where_it_is_without_memory(emulator):
    x, y = data(64)

    def trained():
        net = make("cpu")
        net.fit(x, y, epochs=1, verbose=0)
        return net

    outputs, failures = trained().predict(x), 0
    for net, error in fail_each(emulator, trained, lambda net: net.to("emulated")):
        failures += 1
        assert re.match(rf"emulated: ({SITES}): cudaMalloc: expected .* of memory", str(error))
        assert net.device == "cpu"
        np.testing.assert_array_equal(net.predict(x), outputs)
    assert failures == 4  # parameters, gradients, two states of Adam


def test_layers_without_memory_for_a_net_are_free(emulator):
    layers = [dl.Linear(2, 1)]
    emulator.emulator_set("allocations", 0)
    with pytest.raises(MemoryError, match=r"^emulated: parameters: "):
        dl.Net(layers, device="emulated")
    assert dl.Net(layers).predict(np.ones((1, 2))).shape == (1, 1)


def test_smaller_batch_works_where_a_larger_one_has_no_memory(free):
    x, y = data(2000)
    net = make()
    net.fit(x[:32], y[:32], epochs=1, batch_size=16, verbose=0)
    free(450_000)
    before = state(net)
    with pytest.raises(
        MemoryError, match=r"emulated: scratch: cudaMalloc: expected \d+ kB of memory, got \d+ kB of \d+ kB free"
    ):
        net.fit(x, y, epochs=1, batch_size=2000, verbose=0)
    assert_unchanged(net, before)
    assert np.isfinite(net.fit(x, y, epochs=1, batch_size=100, verbose=0)["loss"][0])


def test_smaller_batch_works_while_the_error_is_handled(free):
    x, y = data(2000)
    net = make()
    net.fit(x[:32], y[:32], epochs=1, batch_size=16, verbose=0)
    free(500_000)  # what the first attempt got holds on to more than half of it
    try:
        net.fit(x, y, optimizer=dl.Adam(0.01), epochs=1, batch_size=2000, verbose=0)
    except MemoryError:
        assert np.isfinite(net.fit(x, y, epochs=1, batch_size=100, verbose=0)["loss"][0])
    else:
        raise AssertionError("expected too little memory")


STEPS = {"emulated": 30, "cuda": 10_000}


def test_training_leaves_no_memory_behind(other_device):
    """Nets that train and go, and one that stays, through every door: as much is free as after the first few steps."""
    (x, y), core = data(96), backends.get("float32", other_device)

    def free():
        gc.collect()
        return core.room

    def steps(net, count):
        step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), 32)
        for i in range(count):
            step(x[i % 64 :][:32], y[i % 64 :][:32])
        net.fit(x, y, epochs=1 + count // 3, batch_size=32, verbose=0)
        net.predict(x), net.evaluate(x, y)

    steps(make(other_device), 3)
    before, kept = free(), make(other_device)
    steps(kept, 3)
    with_net, count = free(), STEPS[other_device]
    steps(kept, count)
    assert free() == with_net
    del kept
    for _ in range(3 + count // 100):
        steps(make(other_device), 1)
    assert free() == before


# ------------------------------------------------------------------------------------------------- streaming
@pytest.fixture
def streams(monkeypatch):
    """The data sets that were streamed, by their rows."""
    made = []

    class Spy(feed.Streamed):
        def __init__(self, net, rows, *args):
            super().__init__(net, rows, *args)
            made.append((len(rows), self.capacity))

    monkeypatch.setattr(feed, "Streamed", Spy)
    return made


CASES = {
    "batch_1": (12, 1, {}),  # rows, batch size, options of fit
    "batch_7": (60, 7, {"epochs": 2}),
    "short_last": (200, 64, {"epochs": 2}),
    "lone_last": (129, 64, {}),
    "one_batch": (130, 130, {}),
    "weights": (200, 64, {"sample_weight": np.linspace(0.5, 2, 200)}),
    "validation": (260, 64, {"validation": 0.4, "epochs": 2}),
    "accumulate": (230, 32, {"accumulate": 3}),
    "in_order": (200, 64, {"shuffle": False}),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_streamed_fit_has_the_bits_of_a_resident_one(other_device, monkeypatch, streams, case, threads):
    rows, size, options = CASES[case]
    x, y = data(rows, "uint8")
    found = []
    for share in (0.5, 0.0):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        net = make(other_device, threads)
        if size == 1:
            net = dl.Net([dl.Linear(COLUMNS, CLASSES)], seed=3, device=other_device, threads=threads)
        net.normalize_inputs(np.full(COLUMNS, 1 / 128), np.full(COLUMNS, -1.0))
        history = net.fit(x, y, **{"epochs": 1, "batch_size": size, "verbose": 0, "optimizer": dl.Adam(0.01), **options})
        times = ("seconds", "samples_per_second")
        found.append((net.store.array.copy(), [{k: v for k, v in row.items() if k not in times} for row in history.rows]))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert len(streams) == 1 + ("validation" in options)


@pytest.mark.parametrize(("dtype", "strided"), [("float64", False), ("float64", True), ("uint8", False)])
def test_data_that_does_not_fit_is_streamed(free, streams, dtype, strided):
    x, y = data(4000 if dtype == "float64" else 24000, dtype)
    if strided:
        x = np.repeat(x, 2, axis=1)[:, ::2]
    found = []
    for limited in (False, True):
        net = dl.Net([dl.Linear(COLUMNS, CLASSES)], seed=3, device="emulated")
        if limited:
            free(1_200_000)
        net.fit(x, y, epochs=1, batch_size=len(x) // 12, optimizer=dl.SGD(1e-4), verbose=0)
        found.append(net.store.array.copy())
    np.testing.assert_array_equal(*found)
    assert len(streams) == 1
    assert 2 * streams[0][1] < len(x)


def test_evaluation_of_data_that_does_not_fit(free, streams):
    x, y = data(24000, "uint8")
    net = dl.Net([dl.Linear(COLUMNS, CLASSES)], seed=3, device="emulated")
    want = net.evaluate(x, y)
    free(1_200_000)
    assert net.evaluate(x, y) == want
    assert streams
