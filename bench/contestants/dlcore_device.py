# SPDX-License-Identifier: Apache-2.0
"""dlcore on a GPU, or in the emulator to try a comparison without one. Many steps are one call, as in an epoch of `fit`."""

from dlcore.backend import check_gemm, get, select_device
from dlcore.bench.programs import FUSED
from dlcore.bench.step import StepSubject

from .dlcore_ import Dlcore


class DlcoreCuda(Dlcore):
    device = "cuda"
    actions = ("train", "ops")

    def __init__(self, threads):
        super().__init__(threads)
        try:
            check_gemm("dlcore", get(device=select_device(self.device)), self.gemm)
        except (RuntimeError, ValueError) as error:
            raise ImportError(error) from None

    def build(self, workload, parameters, x, y, lr, dropout):
        super().build(workload, parameters, x, y, lr, dropout)
        self.timed = StepSubject(workload, self.threads, self.device, self.gemm) if dropout else None

    def many(self, part, call):
        return lambda times: self.timed.run(FUSED, part, times)

    def op(self, kernel, given):
        self.timed = self.subject(kernel)
        return {part: lambda part=part: self.timed.run(FUSED, part, 1) for part in kernel.parts}


class DlcoreMma(DlcoreCuda):
    """Products from six bf16 terms, which err no more than float32 ones."""

    gemm, kinds = "mma", ("product", "linear_relu")


class DlcoreCublasLt(DlcoreMma):
    gemm = "cublaslt"


class DlcoreEmulated(DlcoreCuda):
    device = "emulated"


class DlcoreEmulatedCublasLt(DlcoreCublasLt):
    device = "emulated"
