# SPDX-License-Identifier: Apache-2.0
"""A net in evaluation mode over many rows: outputs, and the metrics of a loss."""

from __future__ import annotations

import numpy as np

from ..plan import Batch, Source, evaluation, finish, prediction
from ..plan.plan import TABLE_OFFSETS
from .inputs import Rows

ROWS = 1024  # of one call: sixteen row chunks run through the whole net


def forward(net, x: np.ndarray, softmax: bool = False) -> np.ndarray:
    """Outputs (rows, out_features) of checked rows, or their softmax."""
    out = np.empty((len(x), net.out_features), net.dtype)
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS]
        batch = Batch(len(part), Source.of(part), **net.input_affine())

        def build(batch=batch):
            trace, targets = prediction(net.layer, batch, softmax)
            return finish(net.backend, trace, net.store.segments, precision=net.precision, targets=targets)

        plan = net.plans.get(("predict", net.precision, batch, softmax), build)
        net.tables.view(np.int64)[2] = 0
        arenas = {**net.arenas(), "x": part, "out": out[start : start + ROWS], "scratch": net.scratch(plan.scratch_bytes)}
        plan.run(arenas, threads=net.threads)
    return out


def metrics(net, rows: Rows, loss) -> dict:
    """Loss, number of rows and, for classification, accuracy over checked rows."""
    _take_metrics(net.tables)
    size = min(ROWS, len(rows))
    whole, rest = divmod(len(rows), size)
    for start, count, each in ((0, whole, size), (whole * size, 1, rest)):
        if not each:
            continue
        batch = rows.batch(each, net)

        def build(batch=batch):
            trace = evaluation(net.layer, loss, batch)
            return finish(net.backend, trace, net.store.segments, precision=net.precision)

        plan = net.plans.get(("evaluate", net.precision, batch, loss.key()), build)
        net.tables.view(np.int64)[2] = start
        arenas = {**net.arenas(), **rows.arenas(), "scratch": net.scratch(plan.scratch_bytes)}
        plan.run(arenas, [(("gradients",), count)], net.threads)
    total, weight, correct, count = _take_metrics(net.tables)
    result = {"loss": float(total / weight) if weight else 0.0, "rows": int(count)}
    if loss.task == "classification":
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
    residual = (w * (y - forward(net, rows.x)) ** 2).sum(axis=0)
    total = (w * (y - (w * y).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    return float(np.mean(np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), 0.0)))
