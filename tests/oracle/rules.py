# SPDX-License-Identifier: Apache-2.0
"""Update rules with torch.optim's formulas, and the two clippings.

``RULES[name](w, g, state, lr=..., ...)`` returns the new w and updates the dict ``state``, empty before the first step.
"""

from functools import partial

import numpy as np

from .real import float64


def sgd(g, state):
    return g


def momentum(g, state, momentum=0.9):
    state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + g
    return state["momentum_buffer"]


def nesterov(g, state, momentum=0.9):
    state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + g
    return g + momentum * state["momentum_buffer"]


def adagrad(g, state, eps=1e-10):
    state["sum"] = state.get("sum", 0.0) + g**2
    return g / (np.sqrt(state["sum"]) + eps)


def rmsprop(g, state, beta2=0.99, eps=1e-8):
    """beta2 is torch's alpha."""
    state["square_avg"] = beta2 * state.get("square_avg", 0.0) + (1 - beta2) * g**2
    return g / (np.sqrt(state["square_avg"]) + eps)


def adam(g, state, beta1=0.9, beta2=0.999, eps=1e-8):
    state["exp_avg"] = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
    state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * g**2
    t = state["step"] = state.get("step", 0) + 1
    mean = state["exp_avg"] / (1 - beta1**t)
    square = state["exp_avg_sq"] / (1 - beta2**t)
    return mean / (np.sqrt(square) + eps)


def step(direction, w, g, state, *, lr, scale=1.0, clip=None, l1=0.0, l2=0.0, decay=0.0, **hyper):
    """One step: scale the gradient, clip its values to [-clip, clip], add the penalties' gradients, take the direction.

    l2 is torch's weight_decay of SGD and Adam (added to the gradient), decay that of AdamW (on w itself).
    """
    w, g = float64(w, g)
    g = scale * g
    if clip is not None:
        g = np.clip(g, -clip, clip)
    g = g + l2 * w + l1 * np.sign(w)
    return w * (1 - lr * decay) - lr * direction(g, state, **hyper)


RULES = {
    "sgd": partial(step, sgd),
    "momentum": partial(step, momentum),
    "nesterov": partial(step, nesterov),
    "adagrad": partial(step, adagrad),
    "rmsprop": partial(step, rmsprop),
    "adam": partial(step, adam),
    "adamw": partial(step, adam, decay=0.01),
}


def clip_by_norm(gradients, max_norm):
    """The gradients times min(1, max_norm / (norm + 1e-6)), and their norm before (torch's clip_grad_norm_)."""
    gradients = [float64(g) for g in gradients]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    factor = min(1.0, max_norm / (norm + 1e-6))
    return [factor * g for g in gradients], float(norm)


def grad_scale(weight_sum, gradients=None, max_norm=None):
    """The one number of the update, 1 / (sum of row weights) x clip factor, and the norm of the mean gradient.

    gradients: sums over rows; without them the norm is 0. A batch whose weights sum to 0 changes nothing.
    """
    scale = 1 / weight_sum if weight_sum else 0.0
    if gradients is None:
        return scale, 0.0
    norm = float(scale * np.sqrt(sum((float64(g) ** 2).sum() for g in gradients)))
    if max_norm is not None:
        scale *= min(1.0, max_norm / (norm + 1e-6))
    return scale, norm
