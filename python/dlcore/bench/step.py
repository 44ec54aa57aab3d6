# SPDX-License-Identifier: Apache-2.0
"""Whole training steps as subjects of a benchmark: a step as an epoch of `fit` runs it, many in one call into C++."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import _core
from ..net import Net
from ..optim.tables import hyper_table
from ..plan import Batch, Source
from ..train.step import INIT_SCALE, Training
from . import nets, plain_step
from .programs import NUMPY, VARIANTS, Arrays, Program
from .subject import Results, Subject
from .workloads import TIMING_LR, Workload, batch, parameters

CHECK_STEPS = 3
# Of losses after a few steps: rounding is amplified by the net, so this is what peers are held to, not a bound.
LOSS_TOLERANCE = {"float32": 5e-4, "bf16x3": 5e-4, "bf16": 5e-2, "float16": 5e-2}
CALL_ROWS = 1 << 18  # of one call into C++: short enough to be interrupted
CALL_STEPS = 512


def make_net(
    workload: Workload, dtype: str = "float32", threads: int | None = None, device: str = "cpu", gemm: str = "auto",
    precision: str = "float32",
) -> Net:  # fmt: skip
    """The workload's net with its initial weights."""
    where = {"threads": threads, "device": device, "gemm": gemm}
    net = Net(nets.build(workload.layers), dtype=dtype, precision=precision, **where)
    for array, value in zip(net.parameters.values(), parameters(workload), strict=True):
        array[...] = value
    return net


class StepSubject(Subject):
    """Gather, forward, loss, backward and update of one batch."""

    parts: ClassVar = {"step": ("gradients", "update")}

    def __init__(self, workload: Workload, threads: int, device: str = "cpu", gemm: str = "auto", precision: str = "float32"):
        self.name, self.workload, self.device, self.precision = workload.name, workload, device, precision
        self.x, self.y = batch(workload)
        self.net = make_net(workload, threads=threads, device=device, gemm=gemm, precision=precision)
        self.begin = self.net.store.array.copy()
        loss = nets.LOSSES[workload.loss]()
        self.training = Training(self.net, loss, nets.optimizer(workload.optimizer, workload.lr))
        self.calls = max(CHECK_STEPS, min(CALL_STEPS, CALL_ROWS // workload.batch))
        order = np.tile(np.arange(workload.batch), self.calls)
        self.hyper, self.out = self.training.hyper(self.calls, 1), np.zeros((self.calls, _core.RESULTS))
        data = Arrays(self.net.backend, x=self.x, y=self.y, order=order)
        own = {m.name: m for m in (self.net.store.memory, *self.training.memories())}
        arenas = {**data.memories, **own, "tables": self.net.tables, "hyper": self.hyper, "results": self.out}
        source = Batch(workload.batch, Source.of(self.x), Source.of(self.y), ordered=True, order_rows=len(order))
        self.programs = {
            name: Program(
                self.net.backend, self.training.plan(loss, source, fuse, record, table_rows=self.calls), arenas, threads
            )
            for name, (fuse, record) in VARIANTS.items()
        }
        if plain_step.supports(workload):
            self.plain = self._plain("float32", TIMING_LR)

    def _plain(self, dtype: str, lr: float) -> plain_step.PlainStep:
        return plain_step.PlainStep(self.workload, parameters(self.workload), self.x, self.y, lr, dtype)

    def reset(self) -> None:
        self.net.store.array[:] = self.begin
        for name, array in (("gradients", self.training.gradients), *self.training.arrays.items()):
            array[:] = 0
            if name == "loss_scale":
                array[_core.LOSS_SCALE_INDEX["value"]] = INIT_SCALE

    def run(self, variant, part, times):
        if variant == NUMPY:
            super().run(variant, part, times)
            return
        while times > 0:
            self.training.start(self.net.tables)
            self.programs[variant].run(self.parts[part], min(times, self.calls))
            times -= self.calls

    def _found(self, variant) -> dict[str, Results]:
        self.reset()
        self._set_rate(self.workload.lr)
        self.run(variant, "step", CHECK_STEPS)
        self._set_rate(TIMING_LR)
        losses = self.out[:CHECK_STEPS, 0] / self.out[:CHECK_STEPS, 1]
        return {"step": {"losses": losses, "parameters": self.net.store.array.copy()}}

    def _set_rate(self, lr: float) -> None:
        self.hyper[:] = hyper_table(nets.optimizer(self.workload.optimizer, lr), 0, self.calls, 1)

    def wanted(self, found):
        if self.plain is not None:
            truth = self._plain("float64", self.workload.lr)
            losses = [truth.step() for _ in range(CHECK_STEPS)]
        else:
            losses = self._float64_losses()
        return {"step": ({"losses": np.array(losses)}, 1)}

    def _float64_losses(self) -> list[float]:
        """Of the float64 kernels, one a node: they share neither vector code nor chains with what is checked."""
        net, loss = make_net(self.workload, "float64"), nets.LOSSES[self.workload.loss]()
        optimizer = nets.optimizer(self.workload.optimizer, self.workload.lr)
        step = net.compile(loss, optimizer, self.workload.batch, fuse=False, record=False)
        return [step(self.x, self.y) for _ in range(CHECK_STEPS)]

    def plain_results(self, found):
        version = self._plain("float32", self.workload.lr)
        return {"step": {"losses": np.array([version.step() for _ in range(CHECK_STEPS)])}}

    def tolerance(self, depth):
        return LOSS_TOLERANCE[self.precision]
