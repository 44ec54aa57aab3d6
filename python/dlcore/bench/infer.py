# SPDX-License-Identifier: Apache-2.0
"""Whole predictions as subjects of a benchmark: a net in evaluation mode, as its predictor holds it, over rows at once."""

from __future__ import annotations

import numpy as np

from ..backend import Memory
from ..plan import Batch, Snapshot, Source, finish, prediction
from ..plan.snapshot import KIND
from . import plain_step
from .programs import NUMPY, VARIANTS, Arrays, Program
from .step import LOSS_TOLERANCE, make_net
from .subject import Results, Subject
from .workloads import TIMING_LR, Workload, batch, parameters

ROWS = (1, 64, 4096)


class _Predictions:
    """The programs of one variant by number of rows, over a snapshot that they share."""

    def __init__(self, net, data: Arrays, rows, threads: int, fuse: bool, record: bool):
        snapshot, plans = Snapshot(net.backend), {}
        for n in rows:
            trace, targets = prediction(net.layer, Batch(n, Source.of(data[f"x{n}"])))
            options = {"targets": targets, "replay": True, "snapshot": snapshot, "fuse": fuse, "record": record}
            plans[n] = finish(net.backend, trace, net.store.segments, precision=net.precision, gemm=net.gemm, **options)
        memory = Memory(net.backend, KIND, max(1, snapshot.bytes // np.dtype(net.dtype).itemsize), net.dtype)
        snapshot.fill(net.store.segments, net.store.memory, memory, threads)
        shared = {KIND: memory, "tables": net.tables}
        self._programs = {
            n: Program(net.backend, plan, {**shared, "x": data.memories[f"x{n}"], "out": data.memories[f"out{n}"]}, threads)
            for n, plan in plans.items()
        }

    def run(self, rows: tuple[int], times: int = 1) -> None:
        self._programs[rows[0]].run(("gradients",), times)

    def cost(self, rows: tuple[int], copies: int = 1):
        return self._programs[rows[0]].cost(("gradients",), copies)


class InferSubject(Subject):
    """Predictions of 1, 64 and 4096 rows."""

    def __init__(
        self, workload: Workload, threads: int, device: str = "cpu", gemm: str = "auto", precision: str = "float32",
        rows: tuple[int, ...] = ROWS,
    ):  # fmt: skip
        self.name, self.workload, self.device, self.precision = workload.name, workload, device, precision
        self.parts = {f"batch {n}": (n,) for n in rows}
        self.net = make_net(workload, threads=threads, device=device, gemm=gemm, precision=precision)
        xs = {n: batch(workload, n)[0] for n in rows}
        outs = {f"out{n}": np.zeros((n, workload.outputs), np.float32) for n in rows}
        self.data = Arrays(self.net.backend, **{f"x{n}": x for n, x in xs.items()}, **outs)
        self.programs = {name: _Predictions(self.net, self.data, rows, threads, *flags) for name, flags in VARIANTS.items()}
        if plain_step.supports(workload):
            self.plain = {part: self._plain(n) for part, (n,) in self.parts.items()}

    def _plain(self, rows: int) -> plain_step.PlainStep:
        return plain_step.PlainStep(self.workload, parameters(self.workload), *batch(self.workload, rows), TIMING_LR)

    def reset(self) -> None:
        for (n,) in self.parts.values():
            self.data[f"out{n}"][...] = np.nan  # what another variant has left is no answer

    def run(self, variant, part, times):
        if variant == NUMPY:
            for _ in range(times):
                self.plain[part].forward()
        else:
            self.programs[variant].run(self.parts[part], times)

    def results(self, part) -> Results:
        return {"outputs": self.data[f"out{self.parts[part][0]}"]}

    def wanted(self, found):
        truth = make_net(self.workload, "float64")  # of kernels that share no vector code with what is checked
        return {
            part: ({"outputs": truth.predict(self.data[f"x{n}"].astype("float64"))}, 1) for part, (n,) in self.parts.items()
        }

    def plain_results(self, found):
        return {part: {"outputs": self.plain[part].forward()} for part in self.parts}

    def tolerance(self, depth):
        return LOSS_TOLERANCE[self.precision]
