# SPDX-License-Identifier: Apache-2.0
"""PyTorch with its fused optimizers: eager, compiled by Inductor, both under bf16 autocast, and in float64 as the truth."""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn, optim

from workloads import kernels

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
    """An optimizer by the name of its rule; RMSprop has no fused kernel, Adagrad none on a GPU."""
    parameters = list(parameters)
    if rule in ("sgd", "momentum", "nesterov"):
        momentum = 0.0 if rule == "sgd" else 0.9
        return optim.SGD(parameters, lr, momentum=momentum, nesterov=rule == "nesterov", fused=True)
    if rule == "rmsprop":
        return optim.RMSprop(parameters, lr, foreach=True)
    if rule == "adamw":
        return optim.AdamW(parameters, lr, weight_decay=0.01, fused=True)
    if rule == "adagrad":
        return optim.Adagrad(parameters, lr, fused=parameters[0].is_cpu)
    return optim.Adam(parameters, lr, fused=True)


def _norm_relu_dropout(x, weight, bias):
    running = torch.zeros_like(bias), torch.ones_like(bias)
    return F.dropout(F.relu(F.batch_norm(x, *running, weight, bias, training=True), inplace=True), 0.5)


OPS = {
    "product": F.linear, "linear_relu": lambda x, w, b: F.relu(F.linear(x, w, b), inplace=True),
    "batch_norm_relu_dropout": _norm_relu_dropout, "dropout": lambda x: F.dropout(x, 0.5),
    "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
    "linear_norm_relu_dropout": lambda x, linear, *norm: _norm_relu_dropout(F.linear(x, linear), *norm),
}  # fmt: skip


class TorchEager(Contestant):
    dtype = torch.float32
    device = "cpu"
    autocast = contextlib.nullcontext

    def __init__(self, threads):
        super().__init__(threads)
        torch.set_num_threads(threads)
        torch.manual_seed(0)

    def compiled(self, function):
        """What is called in a function's place."""
        return function

    def made_optimizer(self, rule: str, parameters, lr: float) -> optim.Optimizer:
        """`optimizer`, as the contestant uses it."""
        return optimizer(rule, parameters, lr)

    def tensor(self, array):
        return torch.from_numpy(array).to(self.device)

    def operand(self, array):
        """What an op is given that a net would have made."""
        return self.tensor(array)

    def build(self, workload, parameters, x, y, lr, dropout):
        self.net = build(workload.layers, dropout).to(self.device, self.dtype).train()
        with torch.no_grad():
            for p, value in zip(self.net.parameters(), parameters, strict=True):
                p.copy_(torch.from_numpy(value.T))  # torch keeps (outputs, inputs)
        self.x, self.y = self.tensor(x).to(self.dtype), self.tensor(y)
        if self.y.is_floating_point():
            self.y = self.y.to(self.dtype)
        self.optimizer = self.made_optimizer(workload.optimizer, self.net.parameters(), lr)
        criterion = LOSSES[workload.loss]
        self.criterion = self.compiled(lambda x, y: criterion(self.net(x), y))

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            self.last = self.criterion(self.x, self.y)
        self.last.backward()
        self.optimizer.step()

    def loss(self):
        return self.last.item()

    def predictor(self, x):
        net, x = self.compiled(self.net.eval()), torch.from_numpy(x).to(self.dtype)

        def call():
            with torch.inference_mode(), self.autocast():
                return net(x)

        return call

    def to_numpy(self, result):
        return result.to(torch.promote_types(result.dtype, torch.float32)).cpu().numpy()

    def op(self, kernel, given):
        if kernel.parts == ("update",):
            return self._update(kernel, given)
        x = self.operand(given.x).requires_grad_()
        if kernel.kind == "cross_entropy":
            return self._cross_entropy(x, self.tensor(given.target))
        inputs = [x, *(self.tensor(p.T.copy()).requires_grad_() for p in given.parameters.values())]
        function, dy, kept = self.compiled(OPS[kernel.kind]), self.operand(given.dy), []

        def forward():
            with self.autocast():
                kept[:] = [function(*inputs)]
            return [kept[0].detach()]

        def backward():
            gradients = torch.autograd.grad(kept[0], inputs, dy.to(kept[0].dtype), retain_graph=True)
            return [gradients[0], *(g.T if g.ndim == 2 else g for g in gradients[1:])]

        return {"forward": forward, "backward": backward}

    def _cross_entropy(self, x, target):
        function = self.compiled(lambda x: F.cross_entropy(x, target, reduction="sum"))

        def both():
            loss = function(x)
            return [loss.detach(), *torch.autograd.grad(loss, x)]

        return {"both": both}

    def _update(self, kernel, given):
        w = [nn.Parameter(self.tensor(value)) for value in given.w]
        for p, g in zip(w, given.g, strict=True):
            p.grad = self.tensor(g)
        rule, values = self.made_optimizer(kernel.kind, w, kernels.LR), [p.detach() for p in w]
        return {"update": lambda: rule.step() or values}

    def version(self):
        return torch.__version__


class TorchFloat64(TorchEager):
    precision = "float64"
    dtype = torch.float64
    actions = ("train", "infer")


class TorchCompile(TorchEager):
    """Forward and backward compiled; the fused optimizers are one pass already."""

    def __init__(self, threads):
        super().__init__(threads)
        import torch._functorch.config
        import torch._inductor.config

        torch._functorch.config.donated_buffer = False  # the backward pass of an op runs again on its graph
        torch._inductor.config.compile_threads = threads

    def compiled(self, function):
        return torch.compile(function, dynamic=False)

    def predictor(self, x):
        torch._inductor.config.freezing = True  # weights are constants, packed in advance
        net, x = self.compiled(self.net.eval()), torch.from_numpy(x)

        def call():
            with torch.no_grad(), self.autocast():
                return net(x)

        return call


class TorchCompileMax(TorchCompile):
    """Products by the fastest of Inductor's own kernels and the libraries', found by measuring."""

    def __init__(self, threads):
        super().__init__(threads)
        torch._inductor.config.max_autotune_gemm_backends = "CPP,ATEN"
        torch._inductor.config.cpp_wrapper = True

    def compiled(self, function):
        return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")


class TorchBf16(TorchEager):
    """Products of bf16 with float32 sums, under autocast."""

    precision = "bf16"
    kinds = ("product", "linear_relu")

    @staticmethod
    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)


class TorchCompileBf16(TorchBf16, TorchCompile):
    pass
