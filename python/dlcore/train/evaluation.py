# SPDX-License-Identifier: Apache-2.0
"""A net in evaluation mode over many rows: outputs, and the metrics of a loss."""

from __future__ import annotations

import numpy as np

from .. import _core, changes, inputs
from ..device_array import DeviceArray
from ..errors import describe, expected
from ..inputs import Rows
from ..plan import Batch, Source, evaluation, finish, prediction
from ..plan.plan import TABLE_OFFSETS, Bound
from .feed import feed

ROWS = 4096  # of one call
HELD_BYTES = 1 << 20  # a larger array is let go after its call, for 20 us of the next one
LEAST_ROWS, VALUES = 1024, 1 << 22  # fewer rows where layers are wide: so many values of the widest


def call_rows(net) -> int:
    """Rows of one call: its values take some megabytes, however wide the net."""
    widest = max((p.matrix_shape[1] for p in net.store.named.values()), default=1)
    return max(LEAST_ROWS, min(ROWS, VALUES // widest))


def prediction_plan(net, x, softmax: bool, output=None):
    """The plan of the outputs (or their softmax) of an array; ``output``: scale and shift of their columns."""
    batch = Batch(len(x), Source.of(x), **net.input_affine())

    def build():
        trace, targets = prediction(net.layer, batch, softmax, output)
        return finish(
            net.backend, trace, net.store.segments, precision=net.precision, gemm=net.gemm, targets=targets,
            snapshot=net.snapshot,
        )  # fmt: skip

    return net.plans.get(("predict", net.precision, net.gemm, batch, softmax, output), build)


class Forward:
    """The outputs (or their softmax) of arrays of one shape, dtype and strides: what can be done once is done here."""

    def __init__(self, net, x: np.ndarray, softmax: bool):
        plan = prediction_plan(net, x, softmax)
        self.shape, self.dtype, self.version = (len(x), net.out_features), np.dtype(net.dtype), changes.latest
        arenas = {**net.arenas(), "x": x, "out": np.empty(self.shape, self.dtype)}
        arenas["scratch"] = net.scratch(plan.scratch_bytes)
        self.counters = memoryview(net.tables.view(np.int64))
        self.wide = x.dtype == "float64" != net.dtype
        self.x, self.out = plan.arenas.index("x"), plan.arenas.index("out")
        (self.prepared,) = [net.backend.prepare(call, plan.bases(arenas)) for call in plan.calls_of([(("gradients",), 1)])]

    def accepts(self, net, x) -> bool:
        """Use this array from now on, unless something about it is new or to be refused."""
        return self.version is changes.latest and self.prepared.accept(self.x, x)

    def holds(self, x) -> bool:
        """Are an accepted array's numbers finite in the net's dtype too?"""
        return not self.wide or inputs.is_finite(np.asarray(x), self.dtype.name)

    def run(self, net, out: np.ndarray) -> None:
        self.prepared.set(self.out, out)
        self.counters[_core.COUNTER["position"]] = 0
        if net.device != "cpu":
            net.arenas()  # what was written on the host
        self.prepared.run(net.threads)


def _out(softmax: bool) -> str:
    return "predict_proba: out" if softmax else "predict: out"


def outputs(out, softmax: bool, shape: tuple[int, int], dtype: np.dtype, x: np.ndarray) -> np.ndarray:
    """The array for the outputs of x: ``out``, if it may be that, or a new one where it is None."""
    if out is None:
        return np.empty(shape, dtype)
    who = _out(softmax)
    if not isinstance(out, np.ndarray):
        raise TypeError(expected(who, "a NumPy array or None", describe(out)))
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(expected(who, f"{dtype.name} of shape {shape}", f"{out.dtype.name} of shape {out.shape}"))
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(expected(who, "a C-contiguous array that may be written", "one that is not"))
    if np.may_share_memory(out, x):
        raise ValueError(expected(who, "memory apart from x", "an array that may overlap it"))
    return out


def forward(net, x: np.ndarray, softmax: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """Outputs (rows, out_features) of checked rows, or their softmax, in ``out`` where it is given."""
    out = outputs(out, softmax, (len(x), net.out_features), np.dtype(net.dtype), x)
    rows = call_rows(net)
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        found = net.forwards.get(softmax)
        if found is None or not found.accepts(net, part):
            found = net.forwards[softmax] = Forward(net, part, softmax)
        found.run(net, out[start : start + rows])
    if x.nbytes > HELD_BYTES:
        net.forwards.pop(softmax, None)
    return out


def forward_on_device(net, x: DeviceArray, softmax: bool = False, output=None, out=None) -> DeviceArray:
    """`forward` of an array on the net's device, which stays there."""
    if out is not None:
        raise ValueError(expected(_out(softmax), "None for rows on a device", describe(out)))
    out, rows = DeviceArray.empty(net.backend, (len(x), net.out_features), net.dtype), call_rows(net)
    for start in range(0, len(x), rows):
        part, into = x[start : start + rows], out[start : start + rows]
        plan = prediction_plan(net, part, softmax, output)
        net.tables.view(np.int64)[_core.COUNTER["position"]] = 0
        arenas = {**net.arenas(), "x": part.arena, "out": into.arena, "scratch": net.scratch(plan.scratch_bytes)}
        plan.run(arenas, threads=net.threads)
    return out


def forward_again(net, x, softmax: bool = False, out: np.ndarray | None = None) -> np.ndarray | None:
    """`forward` of an array like the one before, checked on the way; None where it is of another kind or not plain."""
    found = net.forwards.get(softmax)
    if found is None or not (found.accepts(net, x) and found.holds(x)):
        return None
    out = outputs(out, softmax, found.shape, found.dtype, x)
    found.run(net, out)
    if x.nbytes > HELD_BYTES:
        net.forwards.pop(softmax, None)
    return out


class Evaluation:
    """The metrics of a loss over checked rows, as often as they are wanted."""

    def __init__(self, net, rows: Rows, loss):
        self.net, self.loss = net, loss
        size = min(call_rows(net), len(rows))
        sizes = [(s, n) for s, n in ((size, len(rows) // size), (len(rows) % size, 1)) if s]
        self.order = rows.index
        self.feed = feed(net, rows, sizes, ordered=self.order is not None)
        self.calls: dict[int, Bound] = {}
        self._bind()

    def _plan(self, size: int):
        net, loss, batch = self.net, self.loss, self.feed.batch(size)

        def build():
            trace = evaluation(net.layer, loss, batch)
            return finish(net.backend, trace, net.store.segments, precision=net.precision, gemm=net.gemm)

        return net.plans.get(("evaluate", net.precision, net.gemm, batch, loss.key()), build)

    def _bind(self) -> None:
        net = self.net
        for size, _ in self.feed.sizes:
            plan = self._plan(size)
            if size not in self.calls or self.calls[size].plan is not plan:
                arenas = {**net.arenas(), **self.feed.arenas, "order": self.order, "scratch": net.scratch(plan.scratch_bytes)}
                self.calls[size] = Bound(plan, arenas, [(("gradients",), 1)])
        self.version = changes.latest

    def run(self) -> dict:
        """Loss, number of rows and, for classification, accuracy."""
        net = self.net
        if self.version is not changes.latest:
            self._bind()
        _take_metrics(net.tables)
        for piece in self.feed.pieces(self.order):
            net.tables.view(np.int64)[_core.COUNTER["position"]] = piece.position
            self.calls[piece.size].run({**net.arenas(), **piece.arenas}, [piece.batches], net.threads)
        total, weight, correct, count = _take_metrics(net.tables)
        result = {"loss": float(total / weight) if weight else 0.0, "rows": int(count)}
        if self.loss.task == "classification":
            result["accuracy"] = float(correct / count)
        return result


def _take_metrics(tables: np.ndarray) -> np.ndarray:
    """(loss sum, weight sum, correct, rows), cleared for the next run."""
    first = TABLE_OFFSETS["metrics"] // tables.itemsize
    taken = tables[first : first + 4].copy()
    tables[first : first + 4] = 0
    return taken


def r2(net, rows: Rows) -> float:
    """Coefficient of determination, weighted by rows, the plain mean over outputs; 0 for a constant target."""
    y = np.asarray(rows.y, np.float64)
    w = np.ones((len(y), 1)) if rows.weight is None else np.asarray(rows.weight, np.float64)
    outputs = np.asarray((forward if isinstance(rows.x, np.ndarray) else forward_on_device)(net, rows.x))
    residual = (w * (y - outputs) ** 2).sum(axis=0)
    total = (w * (y - (w * y).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    return float(np.mean(np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), 0.0)))
