# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules: plain callables of time, computed on the host in float64.

``t`` counts epochs (fractions included) unless ``unit="update"``. Any callable ``t -> lr`` serves as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..arguments import finite_float, one_of, positive_int

__all__ = ["Constant", "Cosine", "Exponential", "Inverse", "Schedule", "Step"]


def __dir__() -> list[str]:
    return sorted(__all__)


class Schedule:
    """Base class: subclasses write ``rate(t)``, the rate at time t.

    A subclass of one's own trains as any, but is left out of files, with loss, optimizer and its state: no code is in them.

    Parameters
    ----------
    lr : float
        First (or highest) rate, at least 0.
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> class Linear(dl.schedules.Schedule):
    ...     def rate(self, t):
    ...         return self.lr * max(0.0, 1 - t / 10)
    >>> Linear(1.0)(5)
    0.5
    """

    def __init__(self, lr: float, unit: str = "epoch"):
        self.lr = finite_float(f"{type(self).__name__}: lr", lr, minimum=0.0)
        self.unit = one_of(f"{type(self).__name__}: unit", unit, ("epoch", "update"))

    def rate(self, t: float) -> float:
        """The learning rate at time t >= 0; finite and not negative."""
        raise NotImplementedError

    def __call__(self, t: float) -> float:
        try:
            return self.rate(t)
        except OverflowError:
            return math.inf

    def config(self) -> dict:
        return {"kind": type(self).__name__, **vars(self)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class Constant(Schedule):
    """lr(t) = lr.

    Parameters
    ----------
    lr : float
        The rate, at least 0.
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> [dl.schedules.Constant(0.1)(t) for t in range(3)]
    [0.1, 0.1, 0.1]
    """

    def rate(self, t):
        return self.lr


class Step(Schedule):
    """lr(t) = lr * factor^floor(t / every): halve every k epochs by default.

    Parameters
    ----------
    lr : float
        Rate at t = 0, at least 0.
    every : int
        Units of t between two changes, at least 1.
    factor : float
        What the rate is multiplied by, at least 0 (default 0.5).
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> [dl.schedules.Step(1.0, every=2)(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, lr: float, every: int, factor: float = 0.5, unit: str = "epoch"):
        super().__init__(lr, unit)
        self.every = positive_int("Step: every", every)
        self.factor = finite_float("Step: factor", factor, minimum=0.0)

    def rate(self, t):
        return self.lr * self.factor ** math.floor(t / self.every)


class Exponential(Schedule):
    """lr(t) = lr exp(-k t).

    Parameters
    ----------
    lr : float
        Rate at t = 0, at least 0.
    k : float
        Rate of decay, one over the unit of t; at least 0.
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> [round(dl.schedules.Exponential(1.0, k=0.5)(t), 3) for t in range(3)]
    [1.0, 0.607, 0.368]
    """

    def __init__(self, lr: float, k: float, unit: str = "epoch"):
        super().__init__(lr, unit)
        self.k = finite_float("Exponential: k", k, minimum=0.0)

    def rate(self, t):
        return self.lr * math.exp(-self.k * t)


class Inverse(Schedule):
    """lr(t) = lr / (1 + k t).

    Parameters
    ----------
    lr : float
        Rate at t = 0, at least 0.
    k : float
        Rate of decay, one over the unit of t; at least 0.
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> [dl.schedules.Inverse(1.0, k=1)(t) for t in range(3)]
    [1.0, 0.5, 0.3333333333333333]
    """

    def __init__(self, lr: float, k: float, unit: str = "epoch"):
        super().__init__(lr, unit)
        self.k = finite_float("Inverse: k", k, minimum=0.0)

    def rate(self, t):
        return self.lr / (1 + self.k * t)


class Cosine(Schedule):
    """Linear warm-up to lr, then half a cosine down to ``final`` at ``total`` (Loshchilov and Hutter, 2017).

    Parameters
    ----------
    lr : float
        Highest rate, at t = warmup.
    total : float
        Where the rate has come down to ``final``, in units of t; it stays there.
    warmup : float
        How long the rate rises from 0, in units of t, below total (default 0).
    final : float
        Last rate, at least 0 (default 0).
    unit : {"epoch", "update"}
        What t counts, epochs in fractions (default epoch).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number; another unit.

    Examples
    --------
    >>> import dlcore as dl
    >>> s = dl.schedules.Cosine(1.0, total=10, warmup=2)
    >>> s(0), s(2), round(s(6), 3), s(10)
    (0.0, 1.0, 0.5, 0.0)
    """

    def __init__(self, lr: float, total: float, warmup: float = 0.0, final: float = 0.0, unit: str = "epoch"):
        super().__init__(lr, unit)
        self.total = finite_float("Cosine: total", total, minimum=0.0, exclusive=True)
        self.warmup = finite_float("Cosine: warmup", warmup, minimum=0.0)
        self.final = finite_float("Cosine: final", final, minimum=0.0)
        if self.warmup >= self.total:
            raise ValueError(f"Cosine: expected warmup below total {total}, got {warmup}")

    def rate(self, t):
        if t < self.warmup:
            return self.lr * t / self.warmup
        progress = min(1.0, (t - self.warmup) / (self.total - self.warmup))
        return self.final + (self.lr - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


KINDS = {cls.__name__: cls for cls in (Constant, Step, Exponential, Inverse, Cosine)}


def as_schedule(who: str, lr) -> Callable[[float], float]:
    """A number, a schedule or any callable as a schedule."""
    if isinstance(lr, Schedule) or callable(lr):
        return lr
    return Constant(finite_float(f"{who}: lr", lr, minimum=0.0))


def from_config(config: dict) -> Schedule:
    """The schedule that `Schedule.config` describes."""
    options = dict(config)
    kind = one_of("schedule", options.pop("kind", None), KINDS)
    return KINDS[kind](**options)
