# SPDX-License-Identifier: Apache-2.0
"""The least that the work of a row costs: what a well fused implementation moves and computes, counted from shapes alone.

Flops take their time at the measured multiply-add peak, which no kernel of that arithmetic can pass. Bytes take that of a
probe which moves as many over as much memory in the same mix, beside every round; it is what the machine gives such a
pattern, not a limit. The longer of the two is the floor, and what binds the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dlcore.bench import kernels, timing
from dlcore.bench.kernels import Mix
from dlcore.bench.peak import Peak, Streams
from dlcore.bench.plain_step import STATES
from dlcore.bench.workloads import find, flat

REAL = 4  # bytes


@dataclass(frozen=True)
class Work:
    """Operations, bytes read and written, how they pass, and the bytes of all that is touched."""

    flops: float
    bytes: int
    mix: Mix
    live: int


class Floor:
    """The seconds that a row takes at least; called in every round, with the seconds that it may take to find out.

    Parameters
    ----------
    work : Work
    peak : Peak
    streams : callable, optional
        Makes the probe of a mix over so many bytes; without it bytes move at the bandwidth of `peak`, as on a GPU.

    Attributes
    ----------
    bound : {"flops", "bytes"}
    """

    def __init__(self, work: Work, peak: Peak, streams: Callable[[Mix, int], Streams] | None = None):
        computing, moving = work.flops / peak.flops, work.bytes / peak.bandwidth(work.live)
        self._probe = None
        if streams:
            probe = streams(work.mix, work.live)
            timer, share = timing.Timer(probe.run), work.bytes / probe.bytes
            self._probe = lambda seconds: share * timer(seconds)
            moving = self._probe(0)
        self.bound, self._seconds = ("bytes", moving) if moving > computing else ("flops", computing)

    @property
    def measured(self) -> bool:
        """Does it take time to know?"""
        return self.bound == "bytes" and self._probe is not None

    def __call__(self, seconds: float) -> float:
        return self._probe(seconds) if self.measured else self._seconds


def work(action: str, item: str, part: str) -> Work:
    """That of a row."""
    return _WORK[action](item, part)


def train(item: str, _="") -> Work:
    """A step.

    An output of a linear layer is written, read by the next layer and again by its weight gradient; its gradient is
    written and read: 5 passes. Batch normalisation needs its moments, and the sums of its gradient, before it can be
    applied, which is left to the readers: its input is read once more to make its gradient, which is written and read in
    two forms: 8. Weights are read forward, backward and by the update, gradients written and read, and the update writes
    weights and reads and writes states.
    """
    w = find(item)
    layers, count = list(flat(w.layers)), _parameters(w)
    linear = [(layer, following) for layer, following in zip(layers, [*layers[1:], ("",)]) if layer[0] == "linear"]
    passes = sum(w.batch * outputs * (8 if after[0] == "batch_norm" else 5) for (_, _, outputs), after in linear)
    passes += 2 * w.batch * w.inputs  # x, forward and by the first weight gradient
    flops = sum(2 * w.batch * inputs * outputs * (3 if i else 2) for i, ((_, inputs, outputs), _) in enumerate(linear))
    states = STATES[w.optimizer]
    live = count * (2 + states) + 2 * w.batch * sum(outputs for (_, _, outputs), _ in linear)
    return Work(flops, REAL * (passes + count * (6 + 2 * states)), Mix(reads=3, writes=2), REAL * live)


def infer(item: str, rows: str) -> Work:
    """A prediction: each weight is read, each output of a linear layer written and read once."""
    w, n = find(item), int(rows)
    linear = [layer[1:] for layer in flat(w.layers) if layer[0] == "linear"]
    count, widths = _parameters(w), sum(outputs for _, outputs in linear)
    moved = count + n * (w.inputs + 2 * widths - w.outputs)
    mix = Mix(reads=1) if count > n * widths else Mix(reads=1, writes=1)
    return Work(2 * n * sum(i * o for i, o in linear), REAL * moved, mix, REAL * (count + n * (w.inputs + widths)))


def ops(item: str, part: str) -> Work:
    """A part of a kernel."""
    kernel = kernels.KERNELS[item]
    moved, flops = kernels.bytes_and_flops(kernel, part)
    return Work(flops, moved, kernels.mix(kernel, part), kernels.touched(kernel, part) * kernel.copies)


def _parameters(workload) -> int:
    sizes = {"linear": lambda inputs, outputs: (inputs + 1) * outputs, "batch_norm": lambda features: 2 * features}
    return sum(sizes[kind](*numbers) for kind, *numbers in flat(workload.layers) if kind in sizes)


_WORK = {"train": train, "infer": infer, "ops": ops}
