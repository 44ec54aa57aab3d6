# SPDX-License-Identifier: Apache-2.0
"""Losses. Each adds its weighted sum over rows to the metrics and seeds the backward pass with gradients that are sums.

The mean that is reported and descended is ``sum of w l / sum of w`` over the whole update, short batches and accumulated
micro-batches included.
"""

from __future__ import annotations

import numpy as np

from . import ops
from .arguments import finite_float
from .changes import Noted
from .errors import expected, shorten
from .graph import Value


class Loss(Noted):
    """Base class: ``target`` says what y must be, ``trace`` appends the loss to a trace."""

    target = "real"  # "index": integer classes or (rows, classes) probabilities
    name = "loss"
    task = "regression"

    def trace(self, prediction: Value, target: Value, weight: Value | None, gradient: bool) -> None:
        raise NotImplementedError

    def options(self) -> dict:
        return {}

    def config(self) -> dict:
        return {"kind": type(self).__name__, **self.options()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.options().items())})"


class SoftmaxCrossEntropy(Loss):
    """l = -sum_c t_c log softmax(x)_c, on logits.

    Targets are integer classes (n,), one-hot rows or any probabilities (n, classes).

    Parameters
    ----------
    class_weight : sequence of float, optional
        One weight a class; multiplies each row's term of that class, and for integer targets the denominator too
        (PyTorch's definition).
    label_smoothing : float
        In [0, 1]: t becomes (1 - s) t + s / classes (default 0).

    Raises
    ------
    ValueError, TypeError
        Class weights that are no finite numbers >= 0, or all 0; a label_smoothing outside [0, 1].

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> loss, pull = dl.vjp(dl.SoftmaxCrossEntropy(), np.zeros((1, 2)), np.array([0]))
    >>> round(float(loss), 4)
    0.6931
    """

    target = "index"
    name = "cross_entropy"
    task = "classification"

    def __init__(self, class_weight=None, label_smoothing: float = 0.0):
        self.label_smoothing = finite_float("SoftmaxCrossEntropy: label_smoothing", label_smoothing, 0.0, 1.0)
        self.class_weight = _class_weight("SoftmaxCrossEntropy", class_weight)

    def trace(self, prediction, target, weight, gradient):
        weights = None
        if self.class_weight is not None:
            if len(self.class_weight) != prediction.cols:
                raise ValueError(f"{self!r}: expected {prediction.cols} class weights, got {len(self.class_weight)}")
            weights = prediction.trace.value("class_weight", (1, prediction.cols), kind="constant", constant=self.class_weight)
        ops.softmax_cross_entropy(prediction, target, weight, weights, self.label_smoothing, gradient)

    def options(self):
        options = {}
        if self.class_weight is not None:
            options["class_weight"] = self.class_weight
        if self.label_smoothing:
            options["label_smoothing"] = self.label_smoothing
        return options


class MeanSquaredError(Loss):
    """l = mean over columns of (x - t)^2.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> loss, pull = dl.vjp(dl.MeanSquaredError(), np.array([[1.0]]), np.array([[3.0]]))
    >>> float(loss), float(pull()[0][0, 0])
    (4.0, -4.0)
    """

    name = "mean_squared_error"

    def trace(self, prediction, target, weight, gradient):
        ops.element_loss(prediction, target, weight, "squared_error", gradient)


class BinaryCrossEntropy(Loss):
    """l = mean over columns of max(x, 0) - x t + log(1 + exp(-|x|)), on logits, targets in [0, 1].

    Parameters
    ----------
    class_weight : pair of float, optional
        Weights of the targets 0 and 1.

    Raises
    ------
    ValueError, TypeError
        Class weights that are no two finite numbers >= 0, or both 0.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> loss, pull = dl.vjp(dl.BinaryCrossEntropy(), np.array([[0.0]]), np.array([[1.0]]))
    >>> round(float(loss), 4)
    0.6931
    """

    name = "binary_cross_entropy"
    task = "classification"

    def __init__(self, class_weight=None):
        self.class_weight = _class_weight("BinaryCrossEntropy", class_weight)
        if self.class_weight is not None and len(self.class_weight) != 2:
            raise ValueError(f"BinaryCrossEntropy: expected 2 class weights, got {len(self.class_weight)}")

    def trace(self, prediction, target, weight, gradient):
        constants = self.class_weight or (1.0, 1.0)
        ops.element_loss(prediction, target, weight, "binary_cross_entropy", gradient, constants)

    def options(self):
        return {} if self.class_weight is None else {"class_weight": self.class_weight}


def _class_weight(who: str, weights) -> tuple[float, ...] | None:
    if weights is None:
        return None
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all() or (array < 0).any() or not array.sum() > 0:
        hint = "balanced ones are len(y) / (classes * numpy.bincount(y))"
        got = shorten(repr(weights), 80)
        raise ValueError(expected(who, "class_weight to be one finite number >= 0 a class, not all 0", got, hint))
    return tuple(array.tolist())


KINDS = {cls.__name__: cls for cls in (SoftmaxCrossEntropy, MeanSquaredError, BinaryCrossEntropy)}
