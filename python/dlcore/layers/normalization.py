# SPDX-License-Identifier: Apache-2.0
"""Batch and layer normalisation."""

import numpy as np

from .. import init, ops
from ..arguments import finite_float, positive_int
from .base import Layer, Parameter


class BatchNorm(Layer):
    r"""Normalise each column over the batch: ``y = (x - mean) / sqrt(var + eps) * weight + bias``.

    While training, mean and (biased) variance are the batch's, and running averages are kept:
    ``running = (1 - momentum) running + momentum batch`` (the variance there is unbiased), as in PyTorch. At evaluation
    the running averages are used; `Net.exact_statistics` replaces them by those of a whole data set.
    Source: Ioffe and Szegedy, 2015.

    Parameters
    ----------
    features : int
        Columns.
    eps : float
        Added to the variance (default 1e-5).
    momentum : float
        Weight of the newest batch in the running averages, in [0, 1] (default 0.1).

    Raises
    ------
    ValueError, TypeError
        A number out of its range; an input with another number of columns; a training batch of one row.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> y, pull = dl.vjp(dl.BatchNorm(1), np.array([[1.0], [3.0]]), training=True)
    >>> bool(abs(y.sum()) < 1e-6)
    True
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.features = positive_int("BatchNorm: features", features)
        self.eps = finite_float("BatchNorm: eps", eps, minimum=0.0)
        self.momentum = finite_float("BatchNorm: momentum", momentum, minimum=0.0, maximum=1.0)
        self.weight = Parameter(init.ones, (features,), decay=False)
        self.bias = Parameter(init.zeros, (features,), decay=False)
        self.running_mean = Parameter(init.zeros, (features,), state=True)
        self.running_var = Parameter(init.ones, (features,), state=True)

    def forward(self, x):
        return ops.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps, self.momentum)

    def width(self):
        return self.features

    def options(self):
        return {"features": self.features, "eps": self.eps, "momentum": self.momentum}

    def __repr__(self):
        return f"BatchNorm({self.features})"


class LayerNorm(Layer):
    r"""Normalise each row over its columns: ``y = (x - mean) / sqrt(var + eps) * weight + bias``, biased variance.

    Source: Ba, Kiros and Hinton, 2016.

    Parameters
    ----------
    features : int
        Columns.
    eps : float
        Added to the variance (default 1e-5).

    Raises
    ------
    ValueError, TypeError
        A number out of its range; an input with another number of columns.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.LayerNorm(2)(np.array([[1.0, 3.0]], np.float32)).round(2).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(self, features: int, eps: float = 1e-5):
        self.features = positive_int("LayerNorm: features", features)
        self.eps = finite_float("LayerNorm: eps", eps, minimum=0.0)
        self.weight = Parameter(init.ones, (features,), decay=False)
        self.bias = Parameter(init.zeros, (features,), decay=False)

    def forward(self, x):
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def width(self):
        return self.features

    def options(self):
        return {"features": self.features, "eps": self.eps}

    def __repr__(self):
        return f"LayerNorm({self.features})"


def statistics_layers(layer: Layer):
    """Every BatchNorm below a layer, in order."""
    if isinstance(layer, BatchNorm):
        yield layer
    for _, child in layer.children():
        yield from statistics_layers(child)


def pooled(count: int, mean: np.ndarray, m2: np.ndarray, rows: int, batch_mean: np.ndarray, batch_m2: np.ndarray):
    """Chan's merge of (count, mean, sum of squared deviations) with those of `rows` more rows."""
    total = count + rows
    delta = batch_mean - mean
    return total, mean + delta * (rows / total), m2 + batch_m2 + delta**2 * (count * rows / total)
