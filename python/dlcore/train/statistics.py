# SPDX-License-Identifier: Apache-2.0
"""Exact batch-normalisation statistics over a whole data set, layer by layer in evaluation mode."""

from __future__ import annotations

import numpy as np

from ..device_array import base_of
from ..graph import Trace
from ..layers.normalization import pooled, statistics_layers
from ..ops import Moments, Normalize
from ..plan import Batch, Source, finish
from ..plan.programs import inputs_of

ROWS = 1024


def exact_statistics(net, x: np.ndarray) -> None:
    """Set running mean and (unbiased) variance of each BatchNorm to those of its inputs over all rows of x."""
    for layer in statistics_layers(net.layer):
        total = (0, 0.0, 0.0)
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS]
            total = pooled(*total, len(part), *_moments(net, layer, part))
        count, mean, m2 = total
        layer.running_mean.value[...] = mean
        layer.running_var.value[...] = m2 / max(1, count - 1)


def _moments(net, layer, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of squared deviations of one layer's input over some rows."""
    batch = Batch(len(part), Source.of(part), **net.input_affine())

    def build():
        trace = Trace(training=False)
        net.layer(inputs_of(trace, batch))
        running = trace.parameters[layer.running_mean]
        at = next(i for i, n in enumerate(trace.nodes) if n.op is Normalize and n.context["mean"] is running)
        z = trace.nodes[at].operands["x"]
        del trace.nodes[at:]
        outs = {name: trace.value(name, (1, z.cols), kind=name) for name in ("mean", "m2")}
        trace.append(Moments, x=z, out=outs["mean"], out2=outs["m2"])
        return finish(net.backend, trace, net.store.segments, precision=net.precision, gemm=net.gemm)

    plan = net.plans.get(("statistics", net.precision, net.gemm, id(layer), batch), build)
    mean, m2 = (np.empty(layer.features, net.dtype) for _ in range(2))
    net.tables.view(np.int64)[2] = 0
    arenas = {**net.arenas(), "x": base_of(part), "mean": mean, "m2": m2, "scratch": net.scratch(plan.scratch_bytes)}
    plan.run(arenas, threads=net.threads)
    return mean.astype(np.float64), m2.astype(np.float64)
