# SPDX-License-Identifier: Apache-2.0
"""dlcore on a GPU, or in the emulator to try a comparison without one. Many steps are one call, as in an epoch of `fit`."""

from dlcore.backend import select_device
from dlcore.bench import cases
from dlcore.bench.programs import FUSED
from dlcore.bench.step import StepSubject

from .dlcore_ import Dlcore


class DlcoreCuda(Dlcore):
    device = "cuda"
    actions = ("train", "ops")

    def __init__(self, threads):
        super().__init__(threads)
        try:
            select_device(self.device)
        except RuntimeError as error:
            raise ImportError(error) from None

    def subject(self, kernel):
        return cases.subject(kernel, self.threads, self.device)

    def build(self, workload, parameters, x, y, lr, dropout):
        super().build(workload, parameters, x, y, lr, dropout)
        self.net.to(self.device)
        self.timed = StepSubject(workload, self.threads, self.device) if dropout else None

    def many(self, part, call):
        return lambda times: self.timed.run(FUSED, part, times)

    def op(self, kernel, given):
        self.timed = self.subject(kernel)
        return {part: lambda part=part: self.timed.run(FUSED, part, 1) for part in kernel.parts}


class DlcoreEmulated(DlcoreCuda):
    device = "emulated"
