# SPDX-License-Identifier: Apache-2.0
"""PyTorch in eager mode with its fused optimizers, and in float64 as the truth."""

import torch
import torch.nn.functional as F
from torch import nn, optim

from .base import Contestant

LOSSES = {"cross_entropy": F.cross_entropy, "squared_error": F.mse_loss}


class Residual(nn.Module):
    """x + body(x)"""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def build(layers, dropout: bool) -> nn.Sequential:
    """The net of a list of layers."""
    return nn.Sequential(*(_layer(layer, dropout) for layer in layers))


def _layer(layer, dropout: bool) -> nn.Module:
    kind, *numbers = layer
    if kind == "residual":
        return Residual(build(numbers[0], dropout))
    if kind == "dropout":
        return nn.Dropout(numbers[0] if dropout else 0.0)
    made = {
        "linear": nn.Linear, "batch_norm": nn.BatchNorm1d, "relu": lambda: nn.ReLU(inplace=True), "tanh": nn.Tanh,
        "gelu": lambda: nn.GELU(approximate="tanh"),
    }  # fmt: skip
    return made[kind](*numbers)


def optimizer(rule: str, parameters, lr: float) -> optim.Optimizer:
    """An optimizer by the name of its rule; RMSprop has no fused kernel on the CPU."""
    if rule in ("sgd", "momentum", "nesterov"):
        momentum = 0.0 if rule == "sgd" else 0.9
        return optim.SGD(parameters, lr, momentum=momentum, nesterov=rule == "nesterov", fused=True)
    if rule == "rmsprop":
        return optim.RMSprop(parameters, lr, foreach=True)
    if rule == "adamw":
        return optim.AdamW(parameters, lr, weight_decay=0.01, fused=True)
    return {"adagrad": optim.Adagrad, "adam": optim.Adam}[rule](parameters, lr, fused=True)


class TorchEager(Contestant):
    dtype = torch.float32

    def __init__(self, threads):
        super().__init__(threads)
        torch.set_num_threads(threads)
        torch.manual_seed(0)

    def build(self, workload, parameters, x, y, lr, dropout):
        self.net = build(workload.layers, dropout).to(self.dtype).train()
        with torch.no_grad():
            for p, value in zip(self.net.parameters(), parameters, strict=True):
                p.copy_(torch.from_numpy(value.T))  # torch keeps (outputs, inputs)
        self.x, self.y = torch.from_numpy(x).to(self.dtype), torch.from_numpy(y)
        if self.y.is_floating_point():
            self.y = self.y.to(self.dtype)
        self.optimizer = optimizer(workload.optimizer, self.net.parameters(), lr)
        self.criterion = LOSSES[workload.loss]

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.last = self.criterion(self.net(self.x), self.y)
        self.last.backward()
        self.optimizer.step()

    def loss(self):
        return self.last.item()

    def version(self):
        return torch.__version__


class TorchFloat64(TorchEager):
    precision = "float64"
    dtype = torch.float64
