# SPDX-License-Identifier: Apache-2.0
"""The least that the work of a row costs, counted from shapes alone: what a well fused implementation moves and computes.

Divided by the measured peaks of the machine it is a floor under every time, dlcore's own included.
"""

from __future__ import annotations

from dlcore.bench import kernels
from dlcore.bench.peak import Peak
from dlcore.bench.plain_step import STATES
from dlcore.bench.programs import Cost
from dlcore.bench.workloads import find, flat

REAL = 4  # bytes


def milliseconds(action: str, item: str, part: str, peak: Peak) -> float:
    """The floor of a row."""
    cost = _COSTS[action](item, part)
    return 1e3 * peak.floor(cost.flops, cost.bytes, cost.live)


def train(item: str, _="") -> Cost:
    """A step.

    An output of a linear layer is written, read by the next layer and again by its weight gradient; its gradient is
    written and read: 5 passes. Batch normalisation needs its moments, and the sums of its gradient, before it can be
    applied, which is left to the readers: its input is read once more to make its gradient, which is written and read in
    two forms: 8. Weights are read forward, backward and by the update, gradients written and read, states read (what is
    written goes to lines that are in the cache).
    """
    w = find(item)
    layers, count = list(flat(w.layers)), _parameters(w)
    linear = [(layer, following) for layer, following in zip(layers, [*layers[1:], ("",)]) if layer[0] == "linear"]
    passes = sum(w.batch * outputs * (8 if after[0] == "batch_norm" else 5) for (_, _, outputs), after in linear)
    passes += 2 * w.batch * w.inputs  # x, forward and by the first weight gradient
    flops = sum(2 * w.batch * inputs * outputs * (3 if i else 2) for i, ((_, inputs, outputs), _) in enumerate(linear))
    states = STATES[w.optimizer]
    live = count * (2 + states) + 2 * w.batch * sum(outputs for (_, _, outputs), _ in linear)
    return Cost(REAL * (passes + count * (5 + states)), flops, REAL * live)


def infer(item: str, rows: str) -> Cost:
    """A prediction: each weight is read, each output of a linear layer written and read once."""
    w, n = find(item), int(rows)
    linear = [layer[1:] for layer in flat(w.layers) if layer[0] == "linear"]
    count, widths = _parameters(w), sum(outputs for _, outputs in linear)
    moved = count + n * (w.inputs + 2 * widths - w.outputs)
    return Cost(REAL * moved, 2 * n * sum(i * o for i, o in linear), REAL * (count + n * (w.inputs + widths)))


def ops(item: str, part: str) -> Cost:
    """A part of a kernel."""
    moved, flops = kernels.bytes_and_flops(kernels.KERNELS[item], part)
    return Cost(moved, flops, moved * kernels.KERNELS[item].copies)


def _parameters(workload) -> int:
    sizes = {"linear": lambda inputs, outputs: (inputs + 1) * outputs, "batch_norm": lambda features: 2 * features}
    return sum(sizes[kind](*numbers) for kind, *numbers in flat(workload.layers) if kind in sizes)


_COSTS = {"train": train, "infer": infer, "ops": ops}
