# SPDX-License-Identifier: Apache-2.0
"""The eager door: one layer or loss at once, unfused and unrecorded, forward and backward."""

from __future__ import annotations

import numpy as np

from . import backend as backends
from . import inputs as door
from .arguments import seed_of
from .errors import describe, expected
from .graph import Trace, Value
from .ops import Scale
from .plan import finish
from .plan.differentiate import differentiate
from .plan.plan import TABLE_BYTES
from .store import Store


def apply(layer, x) -> np.ndarray:
    """Evaluate a layer on an array, in evaluation mode."""
    return vjp(layer, x)[0]


def vjp(layer_or_loss, *inputs, training: bool = False, seed: int = 0):
    """Run a layer or a loss and return its result with the function that pulls gradients back.

    Computed in float64 when an input is float64, else in float32; unfused, one kernel at a time.

    Parameters
    ----------
    layer_or_loss : Layer or Loss
        A layer takes ``x`` (rows, features); a loss takes ``prediction, target`` and optionally row weights.
    *inputs : array_like
        Anything NumPy can view.
    training : bool
        Batch statistics and dropout masks as while training (default False).
    seed : int
        Key of the random masks.

    Returns
    -------
    y : ndarray or float
        The layer's result, or the loss (weighted mean over rows).
    pull : callable
        ``dx, dparams = pull(dy)``: the gradient with respect to the first input, and a dict of gradients by parameter
        path. ``dy`` defaults to ones.

    Raises
    ------
    ValueError, TypeError
        Arrays that the layer or the loss does not take.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> y, pull = dl.vjp(dl.Tanh(), np.array([[0.0]]))
    >>> dx, dparams = pull(np.array([[2.0]]))
    >>> float(dx[0, 0])
    2.0
    """
    layer = getattr(layer_or_loss, "layer", layer_or_loss)
    loss = hasattr(layer, "trace")
    if isinstance(layer, type) or not (loss or hasattr(layer, "forward")):
        hint = f"call it: {layer.__name__}()" if isinstance(layer, type) else ""
        raise TypeError(expected("vjp", "a layer or a loss", describe(layer), hint))
    if len(inputs) not in ((2, 3) if loss else (1,)):
        what = "prediction, target and optional weights for a loss" if loss else "one input for a layer"
        raise TypeError(expected("vjp", what, f"{len(inputs)} inputs"))
    seed_of("vjp", seed)
    arrays = [_readable(f"vjp: input {i}", a) for i, a in enumerate(inputs)]
    dtype = "float64" if arrays[0].dtype == np.float64 else "float32"
    if loss:
        return _loss_vjp(layer, arrays, dtype)
    return _layer_vjp(layer, np.ascontiguousarray(arrays[0], dtype=dtype), dtype, training, seed)


def _readable(who: str, array) -> np.ndarray:
    array = door.viewed(who, array)
    if array.size == 0:
        raise ValueError(f"{who}: expected at least one element, got shape {array.shape}")
    return array


def _packed(layer, dtype: str) -> Store:
    """A copy of a layer's parameters in one array."""
    store = Store(layer, dtype)
    for p in store.named.values():
        store.view(store.array, p)[...] = p.value
    return store


def _layer_vjp(layer, x, dtype, training, seed):
    trace, store = Trace(training), _packed(layer, dtype)
    source = trace.value("x", x.shape, kind="x")
    y = layer(source)
    targets = {}
    out = _delivered(trace, y, "y", targets)
    trace.section = "backward"
    dy = trace.value("dy", y.shape, kind="dy")
    trace.seeds.append((y, dy))
    wanted = {source} | {v for p, v in trace.parameters.items() if not p.state}
    gradients = differentiate(trace, wanted)
    dx = _delivered(trace, gradients[source], "dx", targets)
    plan = finish(backends.get(dtype), trace, store.segments, fuse=False, record=False, targets=targets, replay=True)
    arenas = {
        "x": x, "y": np.empty(out.shape, dtype), "dx": np.empty(dx.shape, dtype), "parameters": store.array,
        "gradients": np.zeros_like(store.array), "tables": np.zeros(TABLE_BYTES // 8, np.int64),
        "scratch": backends.allocate(plan.scratch_bytes, "uint8"),
    }  # fmt: skip
    arenas["tables"][3] = seed
    plan.run({**arenas, "dy": arenas["y"]}, [(("gradients",), 1)])
    for p in store.named.values():
        if p.state and training:
            p.value = store.view(store.array, p)

    def pull(dy=None):
        dy = np.ones(y.shape, dtype) if dy is None else np.ascontiguousarray(_readable("pull: dy", dy), dtype=dtype)
        if dy.shape != y.shape:
            raise ValueError(f"pull: expected dy of shape {y.shape}, got {dy.shape}")
        plan.run({**arenas, "dy": dy}, [(("backward",), 1)])
        dparams = {n: store.view(arenas["gradients"], p).copy() for n, p in store.named.items() if not p.state}
        return arenas["dx"].copy(), dparams

    return arenas["y"].copy(), pull


def _delivered(trace: Trace, value: Value, name: str, targets: dict) -> Value:
    """Make ``value`` land in the arena ``name``; a value that already belongs elsewhere is copied."""
    if value.kind != "temporary" or value in targets:
        value = trace.append(Scale, trace.value(name, value.shape), x=value, numbers=(1.0,))
    targets[value] = Value(name, value.shape, kind=name)
    return targets[value]


def _loss_vjp(loss, arrays, dtype):
    prediction, target, *weight = arrays
    if prediction.ndim > 2:
        raise ValueError(expected("vjp: prediction", "one or two dimensions", f"shape {prediction.shape}"))
    prediction = np.ascontiguousarray(np.atleast_2d(prediction), dtype=dtype)
    rows, columns = prediction.shape
    if arrays[0].ndim < 2:  # one row
        target = target.reshape(1, -1)
    target = door.targets("vjp", loss, target, rows, columns, backend=backends.get(dtype))
    index = loss.target == "index" and target.ndim == 1
    target = np.ascontiguousarray(target.reshape(rows, -1), dtype=np.int32 if index else dtype)
    trace = Trace(training=True)
    x = trace.value("x", prediction.shape, kind="x")
    t = trace.value("y", target.shape, kind="y", dtype="i32" if index else "real")
    given = {"x": prediction, "y": target}
    w = None
    if weight:
        given["weight"] = np.ascontiguousarray(door.weights("vjp", weight[0], rows, backends.get(dtype)), dtype=dtype)
        w = trace.value("weight", (rows, 1), kind="weight")
    loss.trace(x, t, w, gradient=True)
    targets = {}
    dx = _delivered(trace, trace.seeds[0][1], "dx", targets)
    plan = finish(backends.get(dtype), trace, {}, fuse=False, record=False, targets=targets)
    tables = np.zeros(TABLE_BYTES // 8, np.float64)
    given |= {
        "tables": tables,
        "dx": np.empty(dx.shape, dtype),
        "scratch": backends.allocate(plan.scratch_bytes, "uint8"),
    }
    plan.run(given)
    total, weight_sum = tables[8], tables[9]

    def pull(dy=1.0):
        dy = _readable("pull: dy", dy)
        if dy.size > 1:
            raise ValueError(expected("pull: dy", "one number for a loss", f"shape {dy.shape}"))
        return given["dx"] * np.asarray(dy.item() / weight_sum, dtype), {}

    return float(total / weight_sum), pull
