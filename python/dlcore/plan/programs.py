# SPDX-License-Identifier: Apache-2.0
"""First passes: the traces of the programs that a net runs (training step, evaluation, prediction, vjp)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core, ops
from ..graph import Trace, Value
from .differentiate import differentiate

LABEL = {"y": "target"}  # the name in listings of an arena's array, where layers use the arena's name


@dataclass(frozen=True)
class Source:
    """How a caller's array is read: dtype name, shape (rows, cols), strides in elements."""

    dtype: str
    rows: int
    cols: int
    ld: int
    step: int

    @classmethod
    def of(cls, array) -> Source:
        """The source of a 1-D or 2-D array of NumPy or a device, whose strides are whole elements."""
        array = array.reshape(-1, 1) if array.ndim == 1 else array
        name = "u8" if array.dtype.kind == "b" else f"{array.dtype.kind}{8 * array.itemsize}"
        return cls(name, *array.shape, *(s // array.itemsize for s in array.strides))

    def contiguous(self, rows: int | None = None) -> Source:
        """The source of a C-contiguous copy, or of a buffer for so many rows of it."""
        return Source(self.dtype, self.rows if rows is None else rows, self.cols, self.cols, 1)


@dataclass(frozen=True)
class Batch:
    """What a step reads: the sources of x, y and row weights, the batch size, and whether rows come in a given order."""

    rows: int
    x: Source
    y: Source | None = None
    weight: Source | None = None
    ordered: bool = False
    order_rows: int = 0
    scale: tuple[float, ...] | None = None  # input normalisation x * scale + shift, by column
    shift: tuple[float, ...] | None = None


@dataclass(frozen=True)
class UpdateSpec:
    """The update behind the seam: rule, clipping, and the trained segments (offset, size, group, decay) of the flat arena."""

    rule: str
    states: int
    elements: int
    segments: tuple[tuple[float, ...], ...]
    clip_norm: float = 0.0
    clip_value: float = 0.0
    accumulate: bool = False
    groups: int = 1
    table_rows: int = 1  # of hyper and results: updates of one call
    scaling: tuple[float, ...] = ()  # of the loss: what divides it beside its scale, growth, backoff, interval


def training(layer, loss, batch: Batch, trained, update: UpdateSpec) -> Trace:
    """gather, forward, loss, backward | grad_scale, update, tick."""
    trace = Trace(training=True)
    _forward_and_loss(trace, layer, loss, batch, gradient=True)
    wanted = {v for p, v in trace.parameters.items() if p in trained}
    scale = _scale_seeds(trace, update.scaling[0]) if update.scaling else None
    differentiate(trace, wanted, update.accumulate)
    _advance(trace, batch.rows)
    _append_update(trace, update, scale)
    return trace


def _scale_seeds(trace: Trace, rows: float) -> Value:
    """Multiply the gradients of the loss by its scale, as if it were a mean over so many rows; return the scale."""
    scale = trace.value("loss_scale", (1, _core.LOSS_SCALE), kind="loss_scale")
    trace.seeds[:] = [
        (y, trace.append(ops.Scale, trace.value(f"{d.name}_scaled", d.shape), x=d, a=scale, numbers=(1 / rows,)))
        for y, d in trace.seeds
    ]
    return scale


def evaluation(layer, loss, batch: Batch) -> Trace:
    """gather, forward in evaluation mode, loss into the metrics."""
    trace = Trace(training=False)
    _forward_and_loss(trace, layer, loss, batch, gradient=False)
    _advance(trace, batch.rows)
    return trace


def prediction(layer, batch: Batch, softmax: bool = False, output=None) -> tuple[Trace, dict[Value, Value]]:
    """gather, forward in evaluation mode; the second result says which value belongs in the caller's ``out``. ``output``:
    scale and shift of its columns."""
    trace = Trace(training=False)
    y = layer(inputs_of(trace, batch))
    y = ops.softmax(y) if softmax else y
    y = y if output is None else _affine(trace, "output", y, *output)
    return trace, {y: Value("out", y.shape, kind="out")}


def _forward_and_loss(trace: Trace, layer, loss, batch: Batch, gradient: bool) -> None:
    y = layer(inputs_of(trace, batch))
    target = _target(trace, batch, loss, y.cols)
    weight = _gathered(trace, "weight", batch.weight, batch) if batch.weight else None
    loss.trace(y, target, weight, gradient)


def inputs_of(trace: Trace, batch: Batch) -> Value:
    x = _gathered(trace, "x", batch.x, batch)
    return x if batch.scale is None else _affine(trace, "input", x, batch.scale, batch.shift)


def _affine(trace: Trace, name: str, x: Value, scale, shift) -> Value:
    vectors = [
        trace.value(f"{name}_{kind}", (1, x.cols), kind="constant", constant=numbers)
        for kind, numbers in (("scale", scale), ("shift", shift))
    ]
    return ops.affine(x, *vectors)


def _order(trace: Trace, batch: Batch) -> Value | None:
    if not batch.ordered:
        return None
    return trace.value("order", (1, batch.order_rows), kind="order", dtype="i64")


def _source(trace: Trace, name: str, source: Source) -> Value:
    return trace.value(
        LABEL.get(name, name), (source.rows, source.cols), kind=name, dtype=source.dtype, ld=source.ld,
        step=source.step,
    )  # fmt: skip


def _gathered(trace: Trace, name: str, source: Source, batch: Batch) -> Value:
    return trace.append(
        ops.Gather, trace.value(f"{LABEL.get(name, name)}_batch", (batch.rows, source.cols)),
        data=_source(trace, name, source),
        order=_order(trace, batch), counters=trace.table("counters"),
    )  # fmt: skip


def _target(trace: Trace, batch: Batch, loss, cols: int) -> Value:
    if loss.target == "index" and batch.y.dtype[0] in "iu" and batch.y.cols == 1:
        out = trace.value("target_batch", (batch.rows, 1), dtype="i32")
        trace.append(
            ops.GatherIndex, data=_source(trace, "y", batch.y), order=_order(trace, batch),
            counters=trace.table("counters"), out=out,
        )  # fmt: skip
        return out
    if batch.y.cols != cols:
        raise ValueError(f"{loss!r}: expected targets with {cols} columns, got {batch.y.cols}")
    return _gathered(trace, "y", batch.y, batch)


def _advance(trace: Trace, rows: int) -> None:
    trace.append(ops.Tick, counters=trace.table("counters"), numbers=(1, 0, rows))


def _append_update(trace: Trace, spec: UpdateSpec, loss_scale: Value | None) -> None:
    trace.section = "update"
    flat = (1, spec.elements)
    gradients = trace.value("gradients", flat, kind="gradient")
    scale, counters, metrics = (trace.table(n) for n in ("grad_scale", "counters", "metrics"))
    hyper = trace.value("hyper", (spec.table_rows, spec.groups * _core.HYPER), kind="hyper", dtype="f64")
    results = trace.value("results", (spec.table_rows, _core.RESULTS), kind="results", dtype="f64")
    states = [trace.value(f"s{i + 1}", flat, kind=f"optimizer{i + 1}") for i in range(spec.states)]
    trace.append(
        ops.GradScale,
        metrics=metrics,
        gradients=gradients if spec.clip_norm or loss_scale else None,
        out=scale,
        loss_scale=loss_scale,
        numbers=(spec.clip_norm, *spec.scaling),
    )
    trace.append(
        ops.Update, w=trace.value("w", flat, kind="parameter"), g=gradients, grad_scale=scale, hyper=hyper,
        counters=counters, loss_scale=loss_scale, function=spec.rule, **dict(zip(("s1", "s2"), states)),
        numbers=(spec.clip_value, spec.accumulate, spec.groups, len(spec.segments), *sum(spec.segments, ())),
    )  # fmt: skip
    trace.append(
        ops.Tick, counters=counters, metrics=metrics, grad_scale=scale, results=results, loss_scale=loss_scale,
        numbers=(0, 1, 0),
    )  # fmt: skip
    trace.section = "gradients"
