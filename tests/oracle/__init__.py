# SPDX-License-Identifier: Apache-2.0
"""The oracle: an independent truth in NumPy and float64, from the textbook formulas. Gradients are sums over rows.

Shapes: x, y, dx, dy (rows, cols); weight (in, out); vectors (cols,). Inputs of any real type are converted exactly.
"""

from .activations import ACTIVATIONS
from .layers import (
    batch_norm,
    batch_norm_backward,
    batch_norm_evaluation,
    batch_norm_evaluation_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    log_softmax,
    softmax,
)
from .losses import LOSSES, Loss, binary_cross_entropy, softmax_cross_entropy, squared_error
from .net import OracleNet
from .philox import dropout, dropout_mask, dropout_scale, dropout_threshold, known_answers, philox4x32_10
from .rules import RULES, clip_by_norm, grad_scale
from .schedules import SCHEDULES

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "RULES",
    "SCHEDULES",
    "Loss",
    "OracleNet",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_evaluation",
    "batch_norm_evaluation_backward",
    "binary_cross_entropy",
    "clip_by_norm",
    "dropout",
    "dropout_mask",
    "dropout_scale",
    "dropout_threshold",
    "grad_scale",
    "known_answers",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "philox4x32_10",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
]
