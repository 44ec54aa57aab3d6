# SPDX-License-Identifier: Apache-2.0
"""Optimizers: names and numbers of the update rules in csrc/math/update_rules.h.

An optimizer is plain data. Its one duty is ``row``: the numbers of one update, computed in float64 on the host.
"""

from __future__ import annotations

import math

from ..arguments import finite_float, one_of
from ..changes import Noted, note
from ..errors import describe, expected
from .schedules import Schedule, as_schedule

RATES = ("lr", "_lr", "schedule")  # no plan depends on them, and they may be set before every step


class Optimizer(Noted):
    """Base class of the update rules.

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate; a callable is given the time in epochs. What is set later, ``optimizer.lr = 0.01``, counts from the next
        update on.
    weight_decay : float
        Decoupled decay: w -= lr * weight_decay * w (default 0, of AdamW 0.01; Loshchilov and Hutter, 2019).
    l2, l1 : float
        Penalties l2/2 ||w||^2 and l1 ||w||_1, added to the gradient (default 0); the reported loss leaves them out.
    decay_all : bool
        Apply decay and penalties to biases and normalisation too (default False).
    clip_norm : float, optional
        Scale the whole gradient so that its norm is at most this (default: never; PyTorch's ``clip_grad_norm_``).
    clip_value : float, optional
        Clip every element of the gradient to [-clip_value, clip_value] (default: never).

    Raises
    ------
    ValueError, TypeError
        A number out of its range, or something else than a number.
    """

    rule = "sgd"

    def __init_subclass__(cls):
        """Where a docstring says ``**common``, the options of every optimizer are listed."""
        if cls.__doc__:
            common = Optimizer.__doc__[Optimizer.__doc__.index("weight_decay :") :].rstrip()
            cls.__doc__ = cls.__doc__.replace("**common", common)

    def __init__(self, lr, *, weight_decay=0.0, l2=0.0, l1=0.0, decay_all=False, clip_norm=None, clip_value=None, **unknown):
        who = type(self).__name__
        if unknown:
            one_of(f"{who}: option", next(iter(unknown)), _options(type(self)))
        self.lr = lr
        self.weight_decay = finite_float(f"{who}: weight_decay", weight_decay, minimum=0.0)
        self.l2 = finite_float(f"{who}: l2", l2, minimum=0.0)
        self.l1 = finite_float(f"{who}: l1", l1, minimum=0.0)
        self.decay_all = bool(decay_all)
        self.clip_norm = None if clip_norm is None else _positive(f"{who}: clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else _positive(f"{who}: clip_value", clip_value)

    @property
    def lr(self):
        """Learning rate: a number, a schedule or a callable."""
        return self._lr

    @lr.setter
    def lr(self, lr):
        self.schedule = as_schedule(type(self).__name__, lr)
        self._lr = lr if callable(lr) else self.schedule.lr

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name not in RATES:
            note()

    def constants(self, update: int) -> dict[str, float]:
        """The rule's own numbers by their names in the hyper table."""
        return {}

    def row(self, update: int, updates_per_epoch: int) -> dict[str, float]:
        """Numbers of update number ``update`` (from 0)."""
        unit = getattr(self.schedule, "unit", "epoch")
        t = update if unit == "update" else update / updates_per_epoch
        rate = self.schedule(t)
        try:
            lr = float(rate)
        except (TypeError, ValueError, OverflowError):
            lr = math.nan
        if not math.isfinite(lr) or lr < 0:
            got = f"{describe(rate)} at t = {t}"
            raise ValueError(expected(type(self).__name__, "a schedule with finite rates >= 0", got))
        return {"lr": lr, "decay": self.weight_decay, "l2": self.l2, "l1": self.l1, **self.constants(update)}

    def step(self, params, grads) -> None:
        """Update a user's own arrays in place; state is kept in the optimizer by position.

        Parameters
        ----------
        params : list of ndarray
            float32 or float64, C-contiguous, writeable. Vectors are not decayed unless ``decay_all``.
        grads : list of array_like
            Gradients of the same shapes.

        Raises
        ------
        ValueError, TypeError
            Lists of unequal length, other shapes or dtypes than before, read-only or non-contiguous parameters.
        """
        from .arrays import step

        step(self, params, grads)

    def options(self) -> dict:
        lr = self.lr.config() if isinstance(self.lr, Schedule) else self.lr
        kept = {k: v for k, v in vars(self).items() if k not in ("lr", "schedule") and not k.startswith("_")}
        return {"lr": lr, **kept}

    def config(self) -> dict:
        return {"kind": type(self).__name__, **self.options()}

    def key(self) -> tuple:
        """What a plan depends on: the rule and its shape, not its numbers."""
        return (self.rule, self.clip_norm, self.clip_value, self.decay_all)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lr={self.lr!r})"


def _options(cls: type) -> list[str]:
    """Names of an optimizer's options."""
    from inspect import signature  # imported here: only a failing call pays for it

    parameters = [p for c in (cls, Optimizer) for p in signature(c).parameters.values() if p.kind != p.VAR_KEYWORD]
    return list(dict.fromkeys(p.name for p in parameters))


def _positive(who: str, value) -> float:
    return finite_float(who, value, minimum=0.0, exclusive=True)


class SGD(Optimizer):
    """w -= lr g, or with momentum v = momentum v + g; w -= lr v, and Nesterov's form w -= lr (g + momentum v).

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate (default 0.01).
    momentum : float
        In [0, 1) (default 0).
    nesterov : bool
        Nesterov's form (default False; Sutskever et al., 2013); needs momentum > 0.
    **common

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = np.ones(2, np.float32)
    >>> dl.SGD(lr=0.5).step([w], [np.ones(2, np.float32)])
    >>> w.tolist()
    [0.5, 0.5]
    """

    def __init__(self, lr=0.01, momentum: float = 0.0, nesterov: bool = False, **common):
        super().__init__(lr, **common)
        self.momentum = finite_float("SGD: momentum", momentum, minimum=0.0, maximum=1.0)
        self.nesterov = bool(nesterov)
        if self.momentum >= 1:
            raise ValueError(f"SGD: expected momentum in [0, 1), got {momentum}")
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: expected momentum > 0 with nesterov=True, got 0")

    @property
    def rule(self):
        return "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"

    def constants(self, update):
        return {"momentum": self.momentum}


class Adagrad(Optimizer):
    """s += g^2; w -= lr g / (sqrt(s) + eps) (Duchi, Hazan and Singer, 2011).

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate (default 0.01).
    eps : float
        Added to the root of s (default 1e-10).
    **common

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = np.ones(1, np.float32)
    >>> dl.Adagrad(lr=0.5).step([w], [np.array([2.0], np.float32)])
    >>> w.tolist()
    [0.5]
    """

    rule = "adagrad"

    def __init__(self, lr=0.01, eps: float = 1e-10, **common):
        super().__init__(lr, **common)
        self.eps = finite_float("Adagrad: eps", eps, minimum=0.0)

    def constants(self, update):
        return {"eps": self.eps}


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2; w -= lr g / (sqrt(s) + eps) (Tieleman and Hinton, 2012).

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate (default 0.01).
    alpha : float
        Memory of the mean square, in [0, 1) (default 0.99).
    eps : float
        Added to its root (default 1e-8).
    **common

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = np.ones(1, np.float32)
    >>> dl.RMSprop(lr=0.1, alpha=0.75).step([w], [np.array([2.0], np.float32)])
    >>> round(float(w[0]), 4)
    0.8
    """

    rule = "rmsprop"

    def __init__(self, lr=0.01, alpha: float = 0.99, eps: float = 1e-8, **common):
        super().__init__(lr, **common)
        self.alpha = _fraction("RMSprop: alpha", alpha)
        self.eps = finite_float("RMSprop: eps", eps, minimum=0.0)

    def constants(self, update):
        return {"beta2": self.alpha, "eps": self.eps}


class Adam(Optimizer):
    """m, v averages of g and g^2 with bias correction; w -= lr m / (sqrt(v) + eps) (Kingma and Ba, 2015).

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate (default 1e-3).
    beta1, beta2 : float
        Memory of the averages, in [0, 1) (defaults 0.9 and 0.999).
    eps : float
        Added to the root of v (default 1e-8).
    **common

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = np.ones(1, np.float32)
    >>> dl.Adam(lr=0.1).step([w], [np.array([2.0], np.float32)])
    >>> round(float(w[0]), 4)
    0.9
    """

    rule = "adam"
    default_decay = 0.0

    def __init__(self, lr=1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **common):
        common.setdefault("weight_decay", self.default_decay)
        super().__init__(lr, **common)
        who = type(self).__name__
        self.beta1, self.beta2 = _fraction(f"{who}: beta1", beta1), _fraction(f"{who}: beta2", beta2)
        self.eps = finite_float(f"{who}: eps", eps, minimum=0.0)

    def constants(self, update):
        beta1, beta2, t = self.beta1, self.beta2, update + 1
        numbers = {"momentum": beta1, "beta2": beta2, "eps": self.eps}
        numbers["correction1"], numbers["correction2"] = 1 - beta1**t, 1 - beta2**t
        return numbers


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default (Loshchilov and Hutter, 2019).

    Weights decay by w -= lr * weight_decay * w before Adam's step; biases and normalisation do not, unless
    ``decay_all``.

    Parameters
    ----------
    lr, beta1, beta2, eps : float
        As of `Adam`.
    **common

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = np.ones((1, 1), np.float32)
    >>> dl.AdamW(lr=0.1, weight_decay=0.5).step([w], [np.array([[2.0]], np.float32)])
    >>> round(float(w[0, 0]), 4)
    0.85
    """

    rule = "adamw"
    default_decay = 0.01


def _fraction(who: str, value) -> float:
    number = finite_float(who, value, minimum=0.0, maximum=1.0)
    if number >= 1:
        raise ValueError(f"{who}: expected a number in [0, 1), got {value}")
    return number


KINDS = {cls.__name__: cls for cls in (SGD, Adagrad, RMSprop, Adam, AdamW)}
