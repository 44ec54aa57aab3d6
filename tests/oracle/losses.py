# SPDX-License-Identifier: Apache-2.0
"""Losses and their gradients, summed over rows: the mean is loss_sum / weight_sum, and so for dprediction.

A row's weight is its sample weight times, in the classification losses, the class weight of its target.
"""

from typing import NamedTuple

import numpy as np

from .activations import sigmoid, softplus
from .layers import log_softmax, softmax
from .real import float64


class Loss(NamedTuple):
    loss_sum: float
    weight_sum: float
    correct: float  # rows, not weighted
    dprediction: np.ndarray  # (rows, cols)


def _row_weights(weight, rows):
    return np.ones(rows) if weight is None else float64(weight).reshape(rows)


def softmax_cross_entropy(logits, target, weight=None, class_weight=None, smoothing=0.0):
    """-sum_c w_c q_c log softmax(logits)_c with q = (1 - smoothing) t + smoothing / classes.

    target: integers (rows,) or (rows, 1), or probabilities t (rows, classes). As in torch.nn.CrossEntropyLoss, a row's
    weight includes its class weight for integer targets only.
    """
    logits, target = float64(logits), np.asarray(target)
    rows, classes = logits.shape
    sample = _row_weights(weight, rows)
    w = np.ones(classes) if class_weight is None else float64(class_weight).reshape(classes)
    if target.dtype.kind in "iu":
        label = target.reshape(rows)
        assert ((label >= 0) & (label < classes)).all(), "label out of range"
        t = np.eye(classes)[label]
        row_weight = sample * w[label]
    else:
        t = float64(target)
        row_weight = sample
    q = w * ((1 - smoothing) * t + smoothing / classes)
    loss = -(q * log_softmax(logits)).sum(axis=1)
    gradient = q.sum(axis=1, keepdims=True) * softmax(logits) - q
    correct = (logits.argmax(axis=1) == t.argmax(axis=1)).sum()
    return Loss(float(sample @ loss), float(row_weight.sum()), float(correct), sample[:, None] * gradient)


def squared_error(prediction, target, weight=None):
    """Mean of (p - t)^2 over the columns of each row."""
    p, t = float64(prediction, target)
    rows, cols = p.shape
    sample = _row_weights(weight, rows)
    loss = ((p - t) ** 2).mean(axis=1)
    return Loss(float(sample @ loss), float(sample.sum()), 0.0, sample[:, None] * 2 * (p - t) / cols)


def binary_cross_entropy(logits, target, weight=None, class_weight=(1.0, 1.0)):
    """Mean over the columns of each row of w1 t softplus(-x) + w0 (1 - t) softplus(x); w1 / w0 is torch's pos_weight.

    The class weight of a target is w1 t + w0 (1 - t), in a row its mean over the columns. A row is correct
    when x > 0 and t > 0.5 agree in all of its columns.
    """
    x, t = float64(logits, target)
    rows, cols = x.shape
    sample = _row_weights(weight, rows)
    w0, w1 = class_weight
    loss = (w1 * t * softplus(-x) + w0 * (1 - t) * softplus(x)).mean(axis=1)
    gradient = (w0 * (1 - t) * sigmoid(x) - w1 * t * sigmoid(-x)) / cols
    row_weight = sample * (w1 * t + w0 * (1 - t)).mean(axis=1)
    correct = ((x > 0) == (t > 0.5)).all(axis=1).sum()
    return Loss(float(sample @ loss), float(row_weight.sum()), float(correct), sample[:, None] * gradient)


LOSSES = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
}
