# SPDX-License-Identifier: Apache-2.0
"""``optimizer.step(params, grads)``: the update kernel over a user's own arrays, in place."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from .. import backend as backends
from .. import inputs
from ..errors import describe, expected
from ..graph import Trace
from ..ops import Update
from ..plan import finish
from ..plan.plan import TABLE_BYTES, TABLE_OFFSETS
from .tables import hyper_row


class Memory:
    """The state arrays of an optimizer, and one plan for them all, which is made anew in a copy."""

    def __init__(self, params):
        self.kinds = [(p.shape, p.dtype) for p in params]
        self.updates, self.arenas, self.key, self.plan = 0, {}, None, None

    def __getstate__(self) -> dict:
        return {**vars(self), "key": None, "plan": None}

    def _plan(self, optimizer) -> None:
        """The plan, and the states that the rule has not kept before."""
        backend = backends.get(str(self.kinds[0][1]))
        self.key, states = optimizer.key(), backend.rules[optimizer.rule][1]
        trace = Trace(training=True)
        hyper = trace.value("hyper", (1, hyper_row({}).size), kind="hyper", dtype="f64")
        for i, (shape, dtype) in enumerate(self.kinds):
            decay = float(optimizer.decay_all or len(shape) > 1)
            flat, names = (1, prod(shape)), [f"s{j}_{i}" for j in range(states)]
            for name in names:
                self.arenas.setdefault(name, np.zeros(prod(shape), dtype))
            own = {f"s{j + 1}": trace.value(name, flat, kind=name) for j, name in enumerate(names)}
            trace.append(
                Update, w=trace.value(f"w{i}", flat, kind=f"w{i}"), g=trace.value(f"g{i}", flat, kind=f"g{i}"), **own,
                grad_scale=trace.table("grad_scale"), hyper=hyper, counters=trace.table("counters"),
                function=optimizer.rule, numbers=(optimizer.clip_value or 0.0, 0, 1, 1, 0, prod(shape), 0, decay),
            )  # fmt: skip
        self.plan = finish(backend, trace, {})

    def run(self, optimizer, params, grads) -> None:
        if optimizer.key() != self.key:
            self._plan(optimizer)
        tables = np.zeros(TABLE_BYTES // 8)
        tables[TABLE_OFFSETS["grad_scale"] // 8] = _scale(optimizer, grads)
        given = {f"w{i}": p for i, p in enumerate(params)} | {f"g{i}": g for i, g in enumerate(grads)}
        given |= {"tables": tables, "hyper": hyper_row(optimizer.row(self.updates, 1))}
        scratch = np.zeros(max(1, self.plan.scratch_bytes), np.uint8)
        self.plan.run({**self.arenas, **given, "scratch": scratch}, threads=backends.num_threads())
        self.updates += 1


def _scale(optimizer, grads) -> float:
    """PyTorch's clip_grad_norm_ factor over all arrays; the net's own step has it in the grad_scale kernel."""
    if not optimizer.clip_norm:
        return 1.0
    norm = float(np.sqrt(sum(float(np.vdot(g, g)) for g in (np.asarray(g, np.float64) for g in grads))))
    return min(1.0, optimizer.clip_norm / (norm + 1e-6))


def step(optimizer, params, grads) -> None:
    """Check, then update."""
    who = f"{type(optimizer).__name__}.step"
    for name, arrays in (("params", params), ("grads", grads)):
        if not isinstance(arrays, Iterable) or isinstance(arrays, np.ndarray):
            raise TypeError(expected(f"{who}: {name}", "a list of arrays", describe(arrays), hint="put one in a list"))
    params, grads = list(params), [inputs.viewed(f"{who}: gradient {i}", g) for i, g in enumerate(grads)]
    if not params or len(params) != len(grads):
        raise ValueError(f"{who}: expected as many gradients as parameters, got {len(grads)} and {len(params)}")
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        _check(f"{who}: parameter {i}", p, g, params[0])
    memory = optimizer.__dict__.get("_memory")
    if memory is None:
        memory = optimizer.__dict__["_memory"] = Memory(params)
    elif memory.kinds != [(p.shape, p.dtype) for p in params]:
        raise ValueError(f"{who}: expected the same shapes and dtypes as before, got {[p.shape for p in params]}")
    memory.run(optimizer, params, [np.array(g, dtype=p.dtype) for p, g in zip(params, grads, strict=True)])


def _check(who: str, p, g, first) -> None:
    if not isinstance(p, np.ndarray) or p.dtype not in (np.float32, np.float64):
        raise TypeError(f"{who}: expected a float32 or float64 array, got {describe(p)}")
    if p.dtype != first.dtype:
        raise TypeError(f"{who}: expected dtype {first.dtype} as the first parameter has, got {p.dtype}")
    if not p.flags.c_contiguous or not p.flags.writeable or p.size == 0:
        raise ValueError(f"{who}: expected a writeable C-contiguous array, not empty, got shape {p.shape}")
    if p.shape != g.shape:
        raise ValueError(f"{who}: expected a gradient of shape {p.shape}, got {g.shape}")
