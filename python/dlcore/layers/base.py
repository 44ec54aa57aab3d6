# SPDX-License-Identifier: Apache-2.0
"""What every layer is: parameters as attributes and one ``forward`` over symbolic values."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from ..changes import Noted
from ..errors import describe, expected
from ..graph import Value


class Parameter(Noted):
    """A trained array, or (``state=True``) one that the forward pass keeps, such as a running mean.

    Parameters
    ----------
    init : callable ``(shape, rng) -> array``
        The initialisation (see `dlcore.init`).
    shape : tuple of int
        Vectors are stored as one row.
    decay : bool
        Do weight decay, L1 and L2 apply by default? True (default) for weights, False for biases and normalisation.
    state : bool
        Kept by the forward pass, not trained (default False).

    Attributes
    ----------
    value : ndarray
        The numbers; those of the net, once it belongs to one.
    frozen : bool
        True keeps training from changing it (default False).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Parameter(dl.init.ones, (2,)).value.tolist()
    [1.0, 1.0]
    """

    def __init__(self, init, shape, *, decay: bool = True, state: bool = False):
        self.init, self.shape, self.decay, self.state = init, tuple(int(n) for n in shape), decay, state
        self.name = ""
        self.frozen = False
        self.adopted = False
        self._value: np.ndarray | None = None
        self._store = None

    def __getstate__(self) -> dict:
        """Of a copy, which has the numbers and belongs to no net."""
        value = None if self._value is None else self.value.copy()
        return {**vars(self), "_value": value, "_store": None, "adopted": False}

    @property
    def matrix_shape(self) -> tuple[int, int]:
        return (1, self.shape[0]) if len(self.shape) == 1 else self.shape

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def value(self) -> np.ndarray:
        """The array; drawn from seed 0 on first use when no net has adopted the parameter."""
        if self._value is None:
            self._value = np.ascontiguousarray(self.drawn(np.random.Generator(np.random.Philox(0))))
        if self._store is not None:
            return self._store.view(self._store.array, self)
        return self._value

    @value.setter
    def value(self, array) -> None:
        array = np.asarray(array)
        if array.shape != self.shape:
            raise ValueError(f"{self.name or 'parameter'}: expected shape {self.shape}, got {array.shape}")
        if self._value is None:
            self._value = np.array(array, dtype=np.result_type(array.dtype, np.float32))
        else:
            self.value[...] = array

    def drawn(self, rng) -> np.ndarray:
        """What the initialisation gives."""
        value = self.init(self.shape, rng)
        array = np.asarray(value)
        if array.shape != self.shape or array.dtype.kind not in "fiub":
            raise ValueError(expected(f"{self.name or 'parameter'}: init", f"numbers of shape {self.shape}", describe(value)))
        return array

    def adopt(self, storage: np.ndarray, store=None) -> None:
        """Live in a net's arena from now on, which ``store`` keeps up to date."""
        self._value, self._store, self.adopted = storage, store, True


class Layer(Noted):
    """Base class of all layers: subclasses set parameters in ``__init__`` and write ``forward``.

    Called with a symbolic `Value` a layer appends its nodes; called with an array it runs at once, in evaluation mode.
    A net with a layer of one's own trains as any, but is not saved: no code is in a file.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> class Gated(dl.Layer):
    ...     def __init__(self, width):
    ...         self.linear, self.gate = dl.Linear(width, width), dl.Sigmoid()
    ...     def forward(self, x):
    ...         return self.gate(self.linear(x))
    >>> Gated(3)(np.ones((2, 3), np.float32)).shape
    (2, 3)
    """

    def forward(self, x: Value) -> Value:
        """The output of an input (rows, columns), made by calling layers and `dlcore.ops`; subclasses write it.

        Raises
        ------
        ValueError
            An input of another width than the layer takes.
        """
        raise NotImplementedError

    def __call__(self, x):
        if not isinstance(x, Value):
            from ..run import apply

            return apply(self, x)
        try:
            return self.forward(x)
        except ValueError as error:
            if getattr(error, "located", False):
                raise
            where = ".".join(x.trace.path).replace(".[", "[")
            located = ValueError(f"{where + ' ' if where else ''}{self!r}: {error}")
            located.located = True
            raise located from None

    def child(self, x: Value, name: str, layer: Layer) -> Value:
        """Call a child layer under its path."""
        x.trace.path.append(name)
        try:
            return layer(x)
        finally:
            x.trace.path.pop()

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers held as attributes."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) in layer order."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, layer in self.children():
            yield from layer.named_parameters(f"{prefix}{name}.")

    def width(self) -> int | None:
        """Input columns that the layer asks for; None when any width will do."""
        return None

    def key(self) -> tuple:
        return (*super().key(), *((name, layer.key()) for name, layer in self.children()))

    def config(self) -> dict:
        """What rebuilds the layer, without its parameters' values."""
        return {"kind": type(self).__name__, **self.options()}

    def options(self) -> dict:
        """Constructor arguments, as JSON can hold them."""
        return {}

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v}" for k, v in self.options().items())
        return f"{type(self).__name__}({inside})"
