# SPDX-License-Identifier: Apache-2.0
"""Activations: each class names a functor of csrc/math/activations.h, where its formula and derivative stand."""

from .. import ops
from ..arguments import finite_float
from .base import Layer


class Activation(Layer):
    """Base of the elementwise activations: ``function`` is the functor's name, ``constants`` its numbers."""

    function = "identity"
    constants: tuple[float, ...] = ()

    def forward(self, x):
        return ops.activate(x, self.function, self.constants)


class Identity(Activation):
    """y = x.

    Examples
    --------
    >>> import dlcore as dl
    >>> float(dl.Identity()([[2.0]])[0, 0])
    2.0
    """

    def forward(self, x):
        return x


class ReLU(Activation):
    """y = max(x, 0); NaN stays NaN.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ReLU()([[-1.0, 2.0]]).tolist()
    [[0.0, 2.0]]
    """

    function = "relu"


class LeakyReLU(Activation):
    """y = x for x > 0, else slope * x.

    Parameters
    ----------
    slope : float
        Slope of the negative half (default 0.01).

    Raises
    ------
    ValueError, TypeError
        A slope that is no finite number >= 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.LeakyReLU(0.5)([[-1.0, 2.0]]).tolist()
    [[-0.5, 2.0]]
    """

    function = "leaky_relu"

    def __init__(self, slope: float = 0.01):
        self.slope = finite_float("LeakyReLU: slope", slope, minimum=0.0)

    @property
    def constants(self):
        return (self.slope,)

    def options(self):
        return {"slope": self.slope}


class ELU(Activation):
    """y = x for x > 0, else alpha (exp(x) - 1) (Clevert, Unterthiner and Hochreiter, 2016).

    Parameters
    ----------
    alpha : float
        Minus the limit at minus infinity (default 1).

    Raises
    ------
    ValueError, TypeError
        An alpha that is no finite number > 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ELU()([[0.0, 2.0]]).tolist()
    [[0.0, 2.0]]
    """

    function = "elu"

    def __init__(self, alpha: float = 1.0):
        self.alpha = finite_float("ELU: alpha", alpha, minimum=0.0, exclusive=True)

    @property
    def constants(self):
        return (self.alpha,)

    def options(self):
        return {"alpha": self.alpha}


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Sigmoid()([[0.0]]).tolist()
    [[0.5]]
    """

    function = "sigmoid"


class Tanh(Activation):
    """y = tanh(x).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Tanh()([[0.0]]).tolist()
    [[0.0]]
    """

    function = "tanh"


class GELU(Activation):
    """y = x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        ``"none"`` (default) by erfc, accurate in the left tail; ``"tanh"`` by 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Raises
    ------
    ValueError
        Another name.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.GELU()([[0.0]]).tolist()
    [[0.0]]
    """

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: expected approximate to be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    @property
    def function(self):
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def options(self):
        return {} if self.approximate == "none" else {"approximate": self.approximate}


class SiLU(Activation):
    """y = x / (1 + exp(-x)).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.SiLU()([[0.0]]).tolist()
    [[0.0]]
    """

    function = "silu"


class Softplus(Activation):
    """y = log(1 + exp(x)), without overflow.

    Examples
    --------
    >>> import dlcore as dl
    >>> round(float(dl.Softplus()([[0.0]])[0, 0]), 4)
    0.6931
    """

    function = "softplus"
