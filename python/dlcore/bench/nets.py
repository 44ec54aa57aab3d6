# SPDX-License-Identifier: Apache-2.0
"""From the layer language of `workloads` to dlcore's public layers, losses and optimizers."""

from __future__ import annotations

from .. import layers as L
from .. import losses, optim

LOSSES = {"cross_entropy": losses.SoftmaxCrossEntropy, "squared_error": losses.MeanSquaredError}


def build(layers, dropout: bool = True) -> L.Sequential:
    """The net of a list of layers; ``dropout=False`` leaves nothing to chance."""
    return L.Sequential(*(_layer(layer, dropout) for layer in layers))


def _layer(layer: tuple, dropout: bool) -> L.Layer:
    kind, *numbers = layer
    if kind == "residual":
        return L.Residual(build(numbers[0], dropout))
    if kind == "dropout":
        return L.Dropout(numbers[0] if dropout else 0.0)
    made = {
        "linear": L.Linear, "batch_norm": L.BatchNorm, "relu": L.ReLU, "tanh": L.Tanh,
        "gelu": lambda: L.GELU(approximate="tanh"),
    }  # fmt: skip
    return made[kind](*numbers)


def optimizer(rule: str, lr: float) -> optim.Optimizer:
    """An optimizer by the name of its rule: PyTorch's defaults, momentum 0.9, AdamW's decay on all parameters."""
    if rule == "sgd":
        return optim.SGD(lr)
    if rule in ("momentum", "nesterov"):
        return optim.SGD(lr, momentum=0.9, nesterov=rule == "nesterov")
    if rule == "adamw":
        return optim.AdamW(lr, decay_all=True)
    return {"adagrad": optim.Adagrad, "rmsprop": optim.RMSprop, "adam": optim.Adam}[rule](lr)
