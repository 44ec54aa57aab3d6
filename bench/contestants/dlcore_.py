# SPDX-License-Identifier: Apache-2.0
"""dlcore through its public API: layers, a loss, an optimizer, `Net.compile`."""

import dlcore as dl
from dlcore.bench import nets

from .base import Contestant


class Dlcore(Contestant):
    def build(self, workload, parameters, x, y, lr, dropout):
        net = dl.Net(nets.build(workload.layers, dropout), threads=self.threads)
        for array, value in zip(net.parameters.values(), parameters, strict=True):
            array[...] = value
        self.x, self.y = x, y
        loss = nets.LOSSES[workload.loss]()
        self.compiled = net.compile(loss, nets.optimizer(workload.optimizer, lr), workload.batch)

    def step(self):
        self.last = self.compiled(self.x, self.y)

    def loss(self):
        return self.last

    def version(self):
        return dl.__version__
