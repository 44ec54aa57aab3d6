# SPDX-License-Identifier: Apache-2.0
"""NumPy by hand, with the buffers made once: plain MLPs only."""

import numpy as np

from workloads import plain_step

from .base import Contestant


class Numpy(Contestant):
    @staticmethod
    def supports(workload):
        return plain_step.supports(workload)

    def build(self, workload, parameters, x, y, lr, dropout):
        self.plain = plain_step.PlainStep(workload, parameters, x, y, lr)

    def step(self):
        self.last = self.plain.step()

    def loss(self):
        return self.last

    def version(self):
        return np.__version__
