# SPDX-License-Identifier: Apache-2.0
"""The linear layer."""

from .. import init as initializers
from .. import ops
from ..arguments import positive_int
from .base import Layer, Parameter


class Linear(Layer):
    r"""Affine map of the last axis: ``y = x W + b``.

    Parameters
    ----------
    in_features, out_features : int
        Widths; the weight is stored as (in_features, out_features).
    bias : bool
        Add the vector b (default True).
    init : str or callable
        Initialisation of the weight (default ``"fan_in_uniform"``: uniform(-1/sqrt(in), 1/sqrt(in)), as in PyTorch).

    Raises
    ------
    ValueError
        A width below 1, an unknown initialisation, or an input with another number of columns.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.Linear(3, 2)(np.zeros((4, 3), np.float32)).shape
    (4, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, init: str = "fan_in_uniform"):
        self.in_features = positive_int("Linear: in_features", in_features)
        self.out_features = positive_int("Linear: out_features", out_features)
        self.has_bias, self.init_name = bool(bias), init
        self.weight = Parameter(initializers.get(init), (self.in_features, self.out_features))
        self.bias = Parameter(initializers.Bias(self.in_features), (self.out_features,), decay=False) if bias else None

    def forward(self, x):
        return ops.linear(x, self.weight, self.bias)

    def width(self):
        return self.in_features

    def options(self):
        options = {"in_features": self.in_features, "out_features": self.out_features}
        if not self.has_bias:
            options["bias"] = False
        if isinstance(self.init_name, str) and self.init_name != "fan_in_uniform":
            options["init"] = self.init_name
        return options

    def __repr__(self):
        return f"Linear({self.in_features}, {self.out_features}{'' if self.has_bias else ', bias=False'})"
