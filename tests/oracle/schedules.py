# SPDX-License-Identifier: Apache-2.0
"""Schedules: each returns the learning rate as a function of the step t = 0, 1, 2, ..."""

import math


def constant(lr):
    return lambda t: lr


def step(lr, every, factor=0.5):
    """lr factor^floor(t / every): halved every so many steps."""
    return lambda t: lr * factor ** (t // every)


def exponential(lr, factor):
    """lr factor^t."""
    return lambda t: lr * factor**t


def inverse(lr, rate):
    """lr / (1 + rate t)."""
    return lambda t: lr / (1 + rate * t)


def cosine(lr, total, warmup=0, minimum=0.0):
    """lr (t + 1) / warmup for t < warmup, then half a cosine from lr to the minimum, reached at t = total."""

    def rate(t):
        if t < warmup:
            return lr * (t + 1) / warmup
        progress = min(1.0, (t - warmup) / (total - warmup))
        return minimum + (lr - minimum) * (1 + math.cos(math.pi * progress)) / 2

    return rate


SCHEDULES = {
    "constant": constant,
    "step": step,
    "exponential": exponential,
    "inverse": inverse,
    "cosine": cosine,
}
