# SPDX-License-Identifier: Apache-2.0
"""dlcore: feed-forward networks, trained fast, with NumPy as the only dependency.

Names are imported on first use, so that ``import dlcore`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from .net import Net, load
    from .optim import SGD, Adagrad, Adam, AdamW, RMSprop, schedules
    from .predictor import Predictor
    from .run import vjp
    from .train import Callback, EarlyStopping, History, Progress

_HOMES = {
    "layers": (
        "BatchNorm", "Dropout", "ELU", "GELU", "Identity", "Layer", "LayerNorm", "LeakyReLU", "Linear", "Parameter",
        "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh",
    ),
    "losses": ("BinaryCrossEntropy", "MeanSquaredError", "SoftmaxCrossEntropy"),
    "optim": ("SGD", "Adagrad", "Adam", "AdamW", "RMSprop", "schedules"),
    "train": ("Callback", "EarlyStopping", "History", "Progress"),
    "net": ("Net", "load"),
    "predictor": ("Predictor",),
    "run": ("vjp",),
    "backend": ("num_threads",),
}  # fmt: skip
_MODULES = ("data", "init", "io")
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME, *_MODULES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name == "__version__":
        from importlib.metadata import version

        value = version("dlcore")
    elif name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    else:
        raise AttributeError(f"module 'dlcore' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
