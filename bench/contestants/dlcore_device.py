# SPDX-License-Identifier: Apache-2.0
"""dlcore on a GPU, or in the emulator to try a comparison without one. Many steps are one call, as in an epoch of `fit`."""

from dlcore.backend import check_gemm, describe_precision, get, select_device
from dlcore.bench.programs import FUSED
from dlcore.bench.step import StepSubject
from workloads import kernels

from .dlcore_ import Dlcore

WITH_PRODUCTS = (*kernels.PRODUCTS, "linear_relu", "linear_norm_relu_dropout")


class DlcoreCuda(Dlcore):
    """Products by multiply-adds in float32."""

    device, gemm = "cuda", "simt"
    actions = ("train", "ops")

    def __init__(self, threads):
        super().__init__(threads)
        try:
            self.backend = get(device=select_device(self.device))
            check_gemm("dlcore", self.backend, self.gemm)
        except (RuntimeError, ValueError) as error:
            raise ImportError(error) from None

    def build(self, workload, parameters, x, y, lr, dropout):
        super().build(workload, parameters, x, y, lr, dropout)
        self.timed = StepSubject(workload, self.threads, self.device, self.gemm, self.products) if dropout else None

    def many(self, part, call):
        return lambda times: self.timed.run(FUSED, part, times)

    def op(self, kernel, given):
        self.timed = self.subject(kernel)
        return {part: lambda part=part: self.timed.run(FUSED, part, 1) for part in kernel.parts}

    def how(self):
        return f"{self.products} products: {describe_precision(self.backend, self.products, self.gemm)}"


class DlcoreMma(DlcoreCuda):
    """Products from six bf16 terms, which err no more than float32 ones."""

    gemm, kinds = "mma", WITH_PRODUCTS


class DlcoreWgmma(DlcoreMma):
    gemm = "wgmma"


class DlcoreCublasLt(DlcoreMma):
    gemm = "cublaslt"


class DlcoreMmaBf16x3(DlcoreMma):
    """From three terms: more exact than tf32."""

    precision, products = "tf32", "bf16x3"


class DlcoreWgmmaBf16x3(DlcoreMmaBf16x3):
    gemm = "wgmma"


class DlcoreMmaBf16(DlcoreMma):
    """From one, with activations in bf16 between kernels."""

    precision = products = "bf16"


class DlcoreWgmmaBf16(DlcoreMmaBf16):
    gemm = "wgmma"


class DlcoreEmulated(DlcoreCuda):
    device = "emulated"


class DlcoreEmulatedCublasLt(DlcoreCublasLt):
    device = "emulated"


class DlcoreEmulatedWgmmaBf16(DlcoreWgmmaBf16):
    device = "emulated"
