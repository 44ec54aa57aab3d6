# SPDX-License-Identifier: Apache-2.0
"""The one set of rules that chooses a net and its training from task, number of rows and number of columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import init as initializers
from . import layers as nn
from .losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from .optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, schedules

if TYPE_CHECKING:
    import numpy as np

ACTIVATIONS = {
    "relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "softplus": nn.Softplus, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity,
}  # fmt: skip

# Class, its options, and the rate that suits a batch of 128.
OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any], float]] = {
    "sgd": (SGD, {}, 0.1),
    "momentum": (SGD, {"momentum": 0.9}, 0.02),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}, 0.02),
    "adagrad": (Adagrad, {}, 0.02),
    "rmsprop": (RMSprop, {}, 2e-3),
    "adam": (Adam, {}, 4e-3),
    "adamw": (AdamW, {}, 4e-3),
}
SCHEDULES = ("constant", "cosine", "step", "exponential", "inverse")
PREPROCESS = ("squash", "standardize", "center", "none")
LINEAR = 3.0  # standard deviations within which squashed inputs stay about linear
INITS = ("auto", *(name.replace("_", "-") for name in initializers.NAMES))


@dataclass(frozen=True)
class Settings:
    """A net and how to train it, as plain values; `choose` makes them.

    Attributes
    ----------
    task : "classification" or "regression"
    layers : tuple of int
        Widths of the hidden layers.
    preprocess : str
        Of inputs: "standardize" (per column, or per channel of images), "center", "none", or "squash": standardize, then
        tanh(z / 3) as the net's first layer, so that an outlier in a column with a long tail does no harm.
    The others are as on the command line (`dlcore train --help`).
    """

    task: str
    preprocess: str
    layers: tuple[int, ...]
    activation: str
    batch_norm: bool
    dropout: float
    init: str
    optimizer: str
    lr: float
    schedule: str
    weight_decay: float
    label_smoothing: float
    epochs: int
    batch_size: int

    def layer(self, inputs: int, outputs: int) -> nn.Sequential:
        """Hidden blocks Linear, BatchNorm, activation, Dropout, and a linear output; Tanh first for squashed inputs."""
        parts: list[nn.Layer] = [nn.Tanh()] if self.preprocess == "squash" else []
        for width in self.layers:
            activation = ACTIVATIONS[self.activation]()
            parts.append(nn.Linear(inputs, width, bias=not self.batch_norm, init=self._init(activation.function)))
            parts += [nn.BatchNorm(width)] if self.batch_norm else []
            parts.append(activation)
            parts += [nn.Dropout(self.dropout)] if self.dropout else []
            inputs = width
        return nn.Sequential(*parts, nn.Linear(inputs, outputs, init=self._init("identity")))

    def input_scaling(self, x: np.ndarray, image: tuple[int, int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift of each column of training rows, for `Net.normalize_inputs`; ``image`` as in a Schema."""
        from .data.preprocess import by_name

        squash = self.preprocess == "squash"
        scaler = by_name("standardize" if squash else self.preprocess, "channel" if image else "feature")
        scaler.fit(x, image[2] if image else 1)
        linear = LINEAR if squash else 1.0
        return scaler.scale / linear, scaler.shift / linear

    def make_loss(self) -> Loss:
        """Cross-entropy or squared error."""
        if self.task == "regression":
            return MeanSquaredError()
        return SoftmaxCrossEntropy(label_smoothing=self.label_smoothing)

    def make_optimizer(self) -> Optimizer:
        """The optimizer with its schedule."""
        kind, options, _ = OPTIMIZERS[self.optimizer]
        return kind(self._schedule(), weight_decay=self.weight_decay, **options)

    def _schedule(self) -> schedules.Schedule:
        if self.schedule == "cosine":
            return schedules.Cosine(self.lr, total=self.epochs, warmup=min(1.0, self.epochs / 10))
        if self.schedule == "step":
            return schedules.Step(self.lr, every=math.ceil(self.epochs / 3), factor=0.1)
        if self.schedule == "exponential":
            return schedules.Exponential(self.lr, k=math.log(100) / self.epochs)
        if self.schedule == "inverse":
            return schedules.Inverse(self.lr, k=9 / self.epochs)
        return schedules.Constant(self.lr)

    def _init(self, function: str) -> str:
        return initializers.for_activation(function) if self.init == "auto" else self.init.replace("-", "_")


def choose(task: str, rows: int, columns: int, **given: Any) -> Settings:
    """The settings for a training part of this size; what is given stays as it is.

    Parameters
    ----------
    task : "classification" or "regression"
    rows, columns : int
        Of the training part.
    **given
        Fields of `Settings`.

    Examples
    --------
    >>> choose("classification", 1294, 64, layers=(8,)).layers
    (8,)
    """
    batch_size = given.get("batch_size", min(128, rows))
    epochs = given.get("epochs", _epochs(rows, batch_size))
    optimizer = given.get("optimizer", "adamw")
    rules = Settings(
        task=task,
        preprocess="squash",
        layers=(512, 256) if columns >= 256 else (256, 128),
        activation="relu",
        # A regression loses by the noise of batch statistics, and one row has none.
        batch_norm=task == "classification" and batch_size > 1,
        dropout=0.1 if task == "regression" else 0.3 if columns >= 64 else 0.2,
        init="auto",
        optimizer=optimizer,
        lr=OPTIMIZERS[optimizer][2] * math.sqrt(batch_size / 128),
        schedule="cosine",
        weight_decay=0.1 if optimizer == "adamw" else 0.0,
        label_smoothing=0.0,
        epochs=epochs,
        batch_size=batch_size,
    )
    return replace(rules, **given)


def _epochs(rows: int, batch_size: int) -> int:
    """About a million rows seen in all, in 10 to 100 epochs; more where those would be fewer than 1000 updates."""
    updates = math.ceil(rows / batch_size)
    return min(max(100, math.ceil(1000 / updates)), max(10, round(1e6 / rows)))
