# SPDX-License-Identifier: Apache-2.0
"""dlcore through its public API: layers, a loss, an optimizer, `Net.compile`, `Net.predict`; single ops as recorded
programs, those of ``dlcore bench ops``."""

import dlcore as dl
from dlcore.backend import describe_precision, get
from dlcore.bench import cases, nets
from dlcore.bench.programs import FUSED

from .base import Contestant


class Dlcore(Contestant):
    device, gemm = "cpu", "auto"
    products = "float32"  # the precision that a net is made with

    def build(self, workload, parameters, x, y, lr, dropout):
        where = {"threads": self.threads, "device": self.device, "gemm": self.gemm}
        self.net = dl.Net(nets.build(workload.layers, dropout), precision=self.products, **where)
        for array, value in zip(self.net.parameters.values(), parameters, strict=True):
            array[...] = value
        self.x, self.y = x, y
        loss = nets.LOSSES[workload.loss]()
        self.compiled = self.net.compile(loss, nets.optimizer(workload.optimizer, lr), workload.batch)

    def step(self):
        self.last = self.compiled(self.x, self.y)

    def loss(self):
        return self.last

    def predictor(self, x):
        predict = self.net.predictor().predict
        return lambda: predict(x)

    def subject(self, kernel):
        """What runs a kernel."""
        return cases.subject(kernel, self.threads, self.device, self.gemm, self.products)

    def op(self, kernel, given):
        subject = self.subject(kernel)
        return {part: lambda part=part: subject.run(FUSED, part, 1) for part in kernel.parts}

    def ops(self, kernel):
        return self.op(kernel, None)  # one run of a subject goes through all copies

    def op_errors(self, kernel):
        subject = self.subject(kernel)
        return {part: error for (variant, part), error in subject.check().items() if variant == FUSED}

    def version(self):
        return dl.__version__


class DlcoreBf16(Dlcore):
    """Products of bf16 with float32 sums, where the processor has a unit for them."""

    precision = products = "bf16"
    actions = ("train", "infer")

    def how(self):
        return f"{self.products} products: {describe_precision(get(), self.products)}"


class DlcoreBf16x3(DlcoreBf16):
    products = "bf16x3"
