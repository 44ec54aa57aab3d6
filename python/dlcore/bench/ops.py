# SPDX-License-Identifier: Apache-2.0
"""Single ops as subjects of a benchmark: a layer with its gradient, a loss with its gradient, an update rule."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import numpy as np

from .. import _core, ops
from .. import backend as backends
from ..graph import Trace, Value
from ..layers import Dropout, Sequential
from ..losses import SoftmaxCrossEntropy
from ..optim.tables import hyper_row
from ..plan.differentiate import differentiate
from ..plan.plan import TABLE_BYTES, TABLE_OFFSETS
from ..run import vjp
from ..store import Store
from . import halves, plain, plain_step
from .nets import optimizer
from .programs import Arrays, variants
from .subject import Results, Subject

SEED = 5


def _tables(grad_scale: float = 0.0) -> np.ndarray:
    tables = np.zeros(TABLE_BYTES // 8)
    tables.view(np.int64)[_core.COUNTER["seed"]] = SEED
    tables[TABLE_OFFSETS["grad_scale"] // 8] = grad_scale
    return tables


def copied(name: str, copies: int) -> list[str]:
    """Names of the copies of an array, that of the first without a number."""
    return [name, *(f"{name}_{i}" for i in range(1, copies))]


def _random(rng, *shape) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


class LayerSubject(Subject):
    """Forward and backward of a layer on x (rows, cols), in training mode.

    Parameters
    ----------
    name : str
    make : callable
        Makes the layer.
    plain_class : type
        Its NumPy version.
    gemm, precision : str
        Whose kernels make products on a device, and how.
    copies : int
        Layers, each with its own arrays, that one run of a part goes through.
    """

    parts: ClassVar = {"forward": ("gradients",), "backward": ("backward",)}

    def __init__(
        self, name: str, make, plain_class, rows: int, cols: int, threads: int, device: str = "cpu", gemm: str = "auto",
        precision: str = "float32", copies: int = 1,
    ):  # fmt: skip
        self.name, self.precision, self.copies, rng = name, precision, copies, np.random.default_rng(SEED)
        self.device, backend = device, backends.get("float32", device)
        layers = [make() for _ in range(copies)]
        trace, self.store = Trace(training=True), Store(Sequential(*layers), "float32", backend)
        self.store.draw(SEED)
        self.half = halves.dtype_of(backend, precision, gemm, rows, cols, cols)
        held = halves.fields(self.half)
        sources = [trace.value("x", (rows, cols), kind=kind, **held) for kind in copied("input", copies)]
        results = [layer(x) for layer, x in zip(layers, sources, strict=True)]
        trace.section = "backward"
        for n, y in zip(copied("dy", copies), results, strict=True):
            trace.seeds.append((y, trace.value("dy", y.shape, kind=n, **held)))
        gradients = differentiate(trace, {*sources, *(v for p, v in trace.parameters.items() if not p.state)})
        made = {"y": results, "dx": [gradients[x] for x in sources]}
        targets = {
            v: Value(n, v.shape, kind=n, **held)
            for name in made for n, v in zip(copied(name, copies), made[name], strict=True)
        }  # fmt: skip
        self.shapes = {"input": (rows, cols), "dy": results[0].shape, "y": results[0].shape, "dx": (rows, cols)}
        own = {n: _random(rng, *shape) for name, shape in self.shapes.items() for n in copied(name, copies)}
        own = {n: halves.to_bits(array, self.half) for n, array in own.items()}
        self.arrays = Arrays(backend, **own, gradients=np.zeros_like(self.store.array), tables=_tables())
        for p in (p for p in self.store.named.values() if not p.state and len(p.shape) == 1):
            p.value = rng.normal(1.0, 0.3, p.shape)
        self.begin = self.store.array.copy()
        arenas = {**self.arrays.memories, "parameters": self.store.memory}
        self.programs = variants(backend, trace, self.store.segments, targets, arenas, threads, gemm, precision)
        self.plain = self._plain(plain_class, "float32")

    def _first(self) -> dict:
        """Trained parameters of the first layer, by their paths in it."""
        paths = ((path.split(".", 1), p) for path, p in self.store.named.items() if not p.state)
        return {path: p for (layer, path), p in paths if layer == "0"}

    def _plain(self, plain_class, dtype):
        named = {n: p.value.astype(dtype) for n, p in self._first().items()}
        return plain_class(self._read("input").astype(dtype), self._read("dy").astype(dtype), named)

    def _read(self, name: str) -> np.ndarray:
        """An array of the first layer in float32."""
        return halves.from_bits(self.arrays[name], self.shapes[name][1], self.half)

    def reset(self):
        self.store.array[:] = self.begin

    def results(self, part) -> Results:
        if part == "forward":
            return {"y": self._read("y")}
        gradients = self.arrays["gradients"]
        return {"dx": self._read("dx"), **{n: self.store.view(gradients, p) for n, p in self._first().items()}}

    def wanted(self, found):
        truth = self._plain(type(self.plain), "float64")
        return {part: (results, truth.depth(part)) for part, results in self._judged(truth, found).items()}

    def plain_results(self, found):
        results = self._judged(self.plain, found)
        self.plain.kept = self.plain.active = None
        return results

    def _judged(self, version, found) -> dict[str, Results]:
        """Results of a NumPy version that takes the masks of what it judges."""
        version.active = found["forward"]["y"] > 0
        if hasattr(version, "p_drop"):
            ones = np.ones(version.dy.shape, np.float32)
            version.kept = vjp(Dropout(version.p_drop), ones, training=True, seed=SEED)[0] > 0
        version.forward()
        version.backward()
        return {part: version.results(part) for part in self.parts}


class CrossEntropySubject(Subject):
    """Softmax cross-entropy of (rows, classes) logits with its gradient, in one kernel."""

    parts: ClassVar = {"both": ("gradients",)}

    def __init__(self, name: str, rows: int, classes: int, threads: int, device: str = "cpu", copies: int = 1):
        self.name, self.device, self.copies, rng = name, device, copies, np.random.default_rng(SEED)
        backend, shape = backends.get("float32", device), (rows, classes)
        trace = Trace(training=True)
        for kind in copied("input", copies):
            target = trace.value("target", (rows, 1), kind="target", dtype="i32")
            SoftmaxCrossEntropy().trace(trace.value("x", shape, kind=kind), target, None, True)
        self.x, dx = _random(rng, *shape), _random(rng, *shape)
        self.target = rng.integers(0, classes, rows)
        own = {n: a for name, a in (("input", self.x), ("dx", dx)) for n in copied(name, copies)}
        self.arrays = Arrays(backend, **own, tables=_tables(), target=self.target.astype(np.int32))
        targets = {seed[1]: Value(n, shape, kind=n) for seed, n in zip(trace.seeds, copied("dx", copies), strict=True)}
        self.programs = variants(backend, trace, {}, targets, self.arrays.memories, threads)
        self.plain = plain.CrossEntropy(self.x, self.target)

    @property
    def metrics(self) -> np.ndarray:
        first = TABLE_OFFSETS["metrics"] // 8
        return self.arrays["tables"][first : first + _core.METRICS]

    def reset(self):
        self.metrics[:] = 0

    def results(self, part):
        return {"loss": self.metrics[:1] / self.copies, "dx": self.arrays["dx"]}

    def wanted(self, found):
        truth = plain.CrossEntropy(self.x.astype("float64"), self.target)
        truth.both()
        return {"both": (truth.results("both"), max(self.x.shape))}

    def plain_results(self, found):
        self.plain.both()
        return {"both": self.plain.results("both")}


class _PlainUpdate:
    def __init__(self, rule: str, arrays: dict[str, np.ndarray]):
        self.arrays, self.numbers = arrays, plain_step.numbers(rule, UpdateSubject.lr, 0)
        self.rule = plain_step.Update(rule, arrays["w"], arrays["g"], [arrays[n] for n in arrays if n[0] == "s"])

    def update(self):
        self.rule(self.numbers)

    def results(self, part) -> Results:
        return {n: a for n, a in self.arrays.items() if n != "g"}


class UpdateSubject(Subject):
    """One update of ``size`` parameters in one flat array, cut into so many tensors."""

    parts: ClassVar = {"update": ("gradients",)}
    lr = 1e-3

    def __init__(self, name: str, rule: str, size: int, threads: int, tensors: int = 1, device: str = "cpu", copies: int = 1):
        self.name, self.rule, self.device, rng = name, rule, device, np.random.default_rng(SEED)
        self.copies = copies
        backend = backends.get("float32", device)
        states = backend.rules[rule][1]
        self.begin = {n: _random(rng, size) for n in ("w", "g", *(f"s{i + 1}" for i in range(states)))}
        for n in range(states):  # squares are positive, whichever of the states holds them
            np.abs(self.begin[f"s{n + 1}"], out=self.begin[f"s{n + 1}"])
        segments = tuple((i * (size // tensors), size // tensors, 0, 1) for i in range(tensors))
        trace = Trace(training=True)
        hyper = trace.value("hyper", (1, _core.HYPER), kind="hyper", dtype="f64")
        for i in range(copies):
            values = {n: trace.value(n, (1, size), kind=copied(n, copies)[i]) for n in self.begin}
            trace.append(
                ops.Update, **values, grad_scale=trace.table("grad_scale"), hyper=hyper, counters=trace.table("counters"),
                function=rule, numbers=(0, 0, 1, tensors, *chain.from_iterable(segments)),
            )  # fmt: skip
        row = hyper_row(optimizer(rule, self.lr).row(0, 1))
        own = {n: a for name, a in self.begin.items() for n in copied(name, copies)}
        self.arrays = Arrays(backend, **own, hyper=row, tables=_tables(grad_scale=1.0))
        self.programs = variants(backend, trace, {}, {}, self.arrays.memories, threads)
        self.plain = _PlainUpdate(rule, {n: a.copy() for n, a in self.begin.items()})

    def reset(self):
        for name, array in self.begin.items():
            self.arrays[name][:] = array

    def results(self, part):
        return {n: self.arrays[n] for n in self.begin if n != "g"}

    def wanted(self, found):
        truth = _PlainUpdate(self.rule, {n: a.astype("float64") for n, a in self.begin.items()})
        truth.update()
        return {"update": (truth.results("update"), 1)}

    def plain_results(self, found):
        self.plain.update()
        return {"update": self.plain.results("update")}
