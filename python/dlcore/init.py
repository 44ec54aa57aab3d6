# SPDX-License-Identifier: Apache-2.0
"""Initialisation of weights: callables ``(shape, rng) -> array`` of shape (fan_in, fan_out).

Draws are made in float64 by the given NumPy generator and rounded once, so float32 and float64 nets start equal.
"""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np

from .arguments import finite_float, one_of

__all__ = [
    "constant", "fan_in_uniform", "kaiming_normal", "kaiming_uniform", "lecun_normal", "normal", "ones", "orthogonal",
    "uniform", "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)


def zeros(shape, rng):
    """All zeros.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.init.zeros((1, 2), None).tolist()
    [[0.0, 0.0]]
    """
    return np.zeros(shape)


def ones(shape, rng):
    """All ones.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.init.ones((1, 2), None).tolist()
    [[1.0, 1.0]]
    """
    return np.ones(shape)


class Bias:
    """uniform(-1/sqrt(fan_in), 1/sqrt(fan_in)) for the bias of a layer with fan_in inputs, as in PyTorch."""

    def __init__(self, fan_in: int):
        self.bound = 1 / math.sqrt(fan_in)

    def __call__(self, shape, rng):
        return rng.uniform(-self.bound, self.bound, shape)


def constant(value: float = 0.0):
    """Every weight the same. Warns: equal hidden units have equal gradients and stay equal for ever.

    Parameters
    ----------
    value : float
        Default 0.

    Raises
    ------
    ValueError, TypeError
        A value that is no finite number.

    Examples
    --------
    >>> import warnings, dlcore as dl
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     dl.init.constant(0.5)((1, 2), None).tolist()
    [[0.5, 0.5]]
    """
    return partial(_constant, finite_float("constant: value", value))


def _constant(value, shape, rng):
    if len(shape) > 1 and shape[1] > 1:
        warnings.warn(
            f"constant initialisation of a {shape[0]} x {shape[1]} weight: symmetric units stay equal; "
            "use a random initialisation for hidden layers",
            stacklevel=2,
        )
    return np.full(shape, value)


def uniform(bound: float = 0.01):
    """uniform(-bound, bound).

    Parameters
    ----------
    bound : float
        At least 0 (default 0.01).

    Raises
    ------
    ValueError, TypeError
        A bound that is no finite number >= 0.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.uniform(0.5)((300, 100), np.random.default_rng(0)).max()), 2)
    0.5
    """
    return partial(_uniform, finite_float("uniform: bound", bound, minimum=0.0))


def _uniform(bound, shape, rng):
    return rng.uniform(-bound, bound, shape)


def normal(std: float = 0.01):
    """normal(0, std^2).

    Parameters
    ----------
    std : float
        Standard deviation, at least 0 (default 0.01).

    Raises
    ------
    ValueError, TypeError
        A std that is no finite number >= 0.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.normal(0.5)((300, 100), np.random.default_rng(0)).std()), 1)
    0.5
    """
    return partial(_normal, finite_float("normal: std", std, minimum=0.0))


def _normal(std, shape, rng):
    return rng.normal(0.0, std, shape)


def fan_in_uniform(shape, rng):
    """uniform(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's Linear.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.fan_in_uniform((300, 100), np.random.default_rng(0)).std()), 2)
    0.03
    """
    return _uniform(1 / math.sqrt(shape[0]), shape, rng)


def lecun_normal(shape, rng):
    """normal(0, 1 / fan_in) (LeCun et al., 1998).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.lecun_normal((300, 100), np.random.default_rng(0)).std()), 2)
    0.06
    """
    return _normal(1 / math.sqrt(shape[0]), shape, rng)


def xavier_uniform(shape, rng):
    """uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.xavier_uniform((300, 100), np.random.default_rng(0)).std()), 2)
    0.07
    """
    return _uniform(math.sqrt(6 / (shape[0] + shape[1])), shape, rng)


def xavier_normal(shape, rng):
    """normal(0, 2 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.xavier_normal((300, 100), np.random.default_rng(0)).std()), 2)
    0.07
    """
    return _normal(math.sqrt(2 / (shape[0] + shape[1])), shape, rng)


def kaiming_uniform(shape, rng):
    """uniform with variance 2 / fan_in, for ReLU (He et al., 2015).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.kaiming_uniform((300, 100), np.random.default_rng(0)).std()), 2)
    0.08
    """
    return _uniform(math.sqrt(6 / shape[0]), shape, rng)


def kaiming_normal(shape, rng):
    """normal(0, 2 / fan_in), for ReLU (He et al., 2015).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> round(float(dl.init.kaiming_normal((300, 100), np.random.default_rng(0)).std()), 2)
    0.08
    """
    return _normal(math.sqrt(2 / shape[0]), shape, rng)


def orthogonal(shape, rng):
    """A random matrix with orthonormal rows or columns (Saxe, McClelland and Ganguli, 2014).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> w = dl.init.orthogonal((3, 2), np.random.default_rng(0))
    >>> bool(np.allclose(w.T @ w, np.eye(2)))
    True
    """
    rows, cols = shape
    q, r = np.linalg.qr(rng.normal(size=(max(rows, cols), min(rows, cols))))
    q = q * np.sign(np.diag(r))
    return q if rows >= cols else q.T


NAMES = {
    "fan_in_uniform": fan_in_uniform,
    "zeros": constant(0.0),
    "uniform": uniform(),
    "normal": normal(),
    "lecun_normal": lecun_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "orthogonal": orthogonal,
}


def get(init):
    """The initialisation of a name, or the callable itself.

    Raises
    ------
    ValueError
        An unknown name; the message suggests the nearest.
    """
    return init if callable(init) else NAMES[one_of("init", init, NAMES)]


def for_activation(function: str) -> str:
    """``init="auto"``: Kaiming for the rectifiers (and GELU, SiLU), Xavier for the saturating activations."""
    return "xavier_uniform" if function in ("sigmoid", "tanh", "identity") else "kaiming_uniform"
