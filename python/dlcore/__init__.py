# SPDX-License-Identifier: Apache-2.0
"""dlcore: feed-forward networks, trained fast, with NumPy as the only dependency."""

from . import data, init, io
from .backend import num_threads
from .layers import (
    ELU,
    GELU,
    BatchNorm,
    Dropout,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from .losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from .net import Net
from .optim import SGD, Adagrad, Adam, AdamW, RMSprop, schedules
from .run import vjp
from .train import Callback, EarlyStopping, History, Progress

load = Net.load


def __getattr__(name: str):
    if name == "__version__":
        from importlib.metadata import version  # imported late: 10 ms that few users need

        return version("dlcore")
    raise AttributeError(f"module 'dlcore' has no attribute {name!r}")


__all__ = [
    "ELU", "GELU", "SGD", "Adagrad", "Adam", "AdamW", "BatchNorm", "BinaryCrossEntropy", "Callback", "Dropout",
    "EarlyStopping", "History", "Identity", "Layer", "LayerNorm", "LeakyReLU", "Linear", "MeanSquaredError", "Net",
    "Parameter", "Progress", "RMSprop", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "SoftmaxCrossEntropy",
    "Softplus", "Tanh", "__version__", "data", "init", "io", "load", "num_threads", "schedules", "vjp",
]  # fmt: skip
