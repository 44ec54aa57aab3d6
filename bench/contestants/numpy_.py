# SPDX-License-Identifier: Apache-2.0
"""NumPy by hand, with the buffers made once: plain MLPs and single ops."""

import numpy as np

from workloads import kernels, plain_step

from .base import Contestant


class Numpy(Contestant):
    @staticmethod
    def supports(workload):
        return plain_step.supports(workload)

    def build(self, workload, parameters, x, y, lr, dropout):
        self.make = lambda x, y: plain_step.PlainStep(workload, parameters, x, y, lr)
        self.plain = self.make(x, y)

    def step(self):
        self.last = self.plain.step()

    def loss(self):
        return self.last

    def predictor(self, x):
        return self.make(x, np.empty(0)).forward

    def op(self, kernel, given):
        if kernel.parts == ("update",):
            rule, h = kernels.update(kernel, given), plain_step.numbers(kernel.kind, kernels.LR, 0)
            return {"update": lambda: rule(h) or (rule.w,)}
        if kernel.kind == "cross_entropy":
            version = kernels.plain.CrossEntropy(given.x, given.target)
        else:
            version = kernels.layer(kernel, given)
        return {part: lambda part=part: self._results(kernel, version, part) for part in kernel.parts}

    @staticmethod
    def _results(kernel, version, part):
        getattr(version, part)()
        return [version.results(part)[name] for name in kernel.results(part)]

    def version(self):
        return np.__version__
