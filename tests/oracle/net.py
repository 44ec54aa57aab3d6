# SPDX-License-Identifier: Apache-2.0
"""A whole net in float64, from a list of layer descriptions.

("linear", weight, bias or None)
("batch_norm", gamma, beta, running_mean, running_var[, momentum, eps])
("layer_norm", gamma or None, beta or None[, eps])
("dropout", p, random_op)
("residual", [body] [, [shortcut]])       shortcut: the identity when left out
(activation, constants...)                "relu", ("elu", 1.0), ...: a name of ACTIVATIONS
"""

from typing import NamedTuple

import numpy as np

from . import layers as ops
from .activations import ACTIVATIONS
from .philox import dropout, dropout_mask
from .real import float64

_TRAINABLE = {"linear": 2, "batch_norm": 2, "layer_norm": 2}  # leading arrays that are parameters


class Run(NamedTuple):
    training: bool
    seed: int
    draws: int


class OracleNet:
    """Descriptions are copied; batch norm's running statistics are updated in place in the copy ``layers``."""

    def __init__(self, layers):
        self.layers = _copied(layers)
        self._pull = None

    def parameters(self):
        """The trainable arrays in layer order, a residual's body before its shortcut; update them in place."""
        return _parameters(self.layers)

    def forward(self, x, training=False, seed=0, draws=0):
        """y (rows, outputs)."""
        y, self._pull = _sequence(float64(x), Run(training, seed, draws), self.layers)
        return y

    def backward(self, dy):
        """dx and the gradients of ``parameters()``, of the last forward pass."""
        return self._pull(float64(dy))


def _copied(layers):
    def copied(item):
        if isinstance(item, list):
            return _copied(item)
        return np.array(item, np.float64) if isinstance(item, np.ndarray) else item

    return [tuple(copied(item) for item in ((layer,) if isinstance(layer, str) else layer)) for layer in layers]


def _parameters(layers):
    found = []
    for kind, *items in layers:
        if kind == "residual":
            found += [p for part in items for p in _parameters(part)]
        found += [p for p in items[: _TRAINABLE.get(kind, 0)] if p is not None]
    return found


# Each layer returns y and its pullback: dy -> (dx, gradients of its parameters).
def _sequence(x, run, layers):
    pulls = []
    for kind, *items in layers:
        if kind in ACTIVATIONS:
            x, pull = _activation(x, kind, items)
        else:
            x, pull = _LAYERS[kind](x, run, *items)
        pulls.append(pull)

    def pull_all(dy):
        gradients = []
        for pull in reversed(pulls):
            dy, own = pull(dy)
            gradients = own + gradients
        return dy, gradients

    return x, pull_all


def _activation(x, name, constants):
    f, df = ACTIVATIONS[name]
    return f(x, constants), lambda dy: (dy * df(x, constants), [])


def _with_parameters(backward, parameters):
    """The pullback of a layer whose backward pass returns dx and one gradient for each parameter, absent or not."""

    def pull(dy):
        dx, *gradients = backward(dy)
        return dx, [g for g, p in zip(gradients, parameters, strict=True) if p is not None]

    return pull


def _linear(x, run, weight, bias=None):
    y = ops.linear(x, weight, bias)
    return y, _with_parameters(lambda dy: ops.linear_backward(dy, x, weight), (weight, bias))


def _batch_norm(x, run, gamma, beta, running_mean, running_var, momentum=0.1, eps=1e-5):
    if run.training:
        y, _, _, mean, var = ops.batch_norm(x, gamma, beta, running_mean, running_var, momentum, eps)
        running_mean[:], running_var[:] = mean, var
        return y, _with_parameters(lambda dy: ops.batch_norm_backward(dy, x, gamma, eps), (gamma, beta))
    y = ops.batch_norm_evaluation(x, gamma, beta, running_mean, running_var, eps)
    mean, var = running_mean.copy(), running_var.copy()
    return y, _with_parameters(lambda dy: ops.batch_norm_evaluation_backward(dy, x, gamma, mean, var, eps), (gamma, beta))


def _layer_norm(x, run, gamma=None, beta=None, eps=1e-5):
    y, _, _ = ops.layer_norm(x, gamma, beta, eps)
    return y, _with_parameters(lambda dy: ops.layer_norm_backward(dy, x, gamma, eps), (gamma, beta))


def _dropout(x, run, p, random_op):
    if not run.training:
        return x, lambda dy: (dy, [])
    mask = dropout_mask(*x.shape, p, run.seed, random_op, run.draws)
    return dropout(x, mask, p), lambda dy: (dropout(dy, mask, p), [])


def _residual(x, run, body, shortcut=()):
    y, pull_body = _sequence(x, run, body)
    short, pull_shortcut = _sequence(x, run, shortcut)

    def pull(dy):
        dx, gradients = pull_body(dy)
        dshort, others = pull_shortcut(dy)
        return dx + dshort, gradients + others

    return y + short, pull


_LAYERS = {
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": _dropout,
    "residual": _residual,
}
