# SPDX-License-Identifier: Apache-2.0
"""Layers made of layers, and dropout."""

from collections.abc import Iterator

from .. import ops
from ..arguments import finite_float
from ..errors import describe, expected
from .base import Layer
from .linear import Linear


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        In order; any nesting.

    Raises
    ------
    TypeError
        Something else than a layer.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Sequential(dl.Linear(3, 4), dl.ReLU(), dl.Linear(4, 2))
    Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    """

    def __init__(self, *layers: Layer):
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            layers = layers[0]
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                hint = f"call it: {layer.__name__}()" if isinstance(layer, type) else ""
                raise TypeError(expected("Sequential", "layers", f"{describe(layer)} at position {i}", hint))
        self.layers = tuple(layers)

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = self.child(x, f"[{i}]", layer)
        return x

    def children(self) -> Iterator[tuple[str, Layer]]:
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def width(self):
        return next((w for w in (layer.width() for layer in self.layers) if w is not None), None)

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, index):
        return self.layers[index]

    def config(self):
        return {"kind": "Sequential", "layers": [layer.config() for layer in self.layers]}

    def __repr__(self):
        return f"Sequential({', '.join(map(repr, self.layers))})"


class Residual(Layer):
    """y = P(x) + body(x), P the identity or a linear projection when the widths differ (He et al., 2016).

    Parameters
    ----------
    body : Layer
        The branch.
    projection : Linear or None
        Needed when body changes the width (default None: identity).

    Raises
    ------
    ValueError
        body changes the width and there is no projection.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> block = dl.Residual(dl.Sequential(dl.Linear(4, 4), dl.ReLU()))
    >>> block(np.zeros((2, 4), np.float32)).shape
    (2, 4)
    """

    def __init__(self, body: Layer, projection: Linear | None = None):
        self.body, self.projection = body, projection

    def forward(self, x):
        y = self.child(x, "body", self.body)
        short = x if self.projection is None else self.child(x, "projection", self.projection)
        if short.shape != y.shape:
            raise ValueError(
                f"expected a body that keeps {short.cols} columns, got {y.cols}; pass projection=Linear({x.cols}, {y.cols})"
            )
        return ops.add(y, short)

    def width(self):
        return self.body.width() or (self.projection.width() if self.projection else None)

    def config(self):
        projection = self.projection.config() if self.projection else None
        return {"kind": "Residual", "body": self.body.config(), "projection": projection}

    def __repr__(self):
        return f"Residual({self.body!r}{f', projection={self.projection!r}' if self.projection else ''})"


class Dropout(Layer):
    """Drop each element with probability p while training and divide the rest by 1 - p; the identity otherwise.

    The mask is a function of seed, step, layer, row and column (Philox), so it does not depend on threads or fusion.
    p is quantised to 1/65536. Source: Srivastava et al., 2014.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1) (default 0.5).

    Raises
    ------
    ValueError, TypeError
        A p that is no number in [0, 1).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> y, _ = dl.vjp(dl.Dropout(0.5), np.ones((8, 8), np.float32), training=True, seed=1)
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5):
        self.p = finite_float("Dropout: p", p, minimum=0.0, maximum=1.0)
        if self.p >= 1.0:
            raise ValueError(f"Dropout: expected p in [0, 1), got {p}")

    def forward(self, x):
        return ops.dropout(x, self.p)

    def options(self):
        return {"p": self.p}

    def __repr__(self):
        return f"Dropout({self.p:g})"
