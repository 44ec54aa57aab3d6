# SPDX-License-Identifier: Apache-2.0
"""Where parameters live: one array, trained parameters first, then the layers' state, every start aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import backend as backends
from .arguments import one_of
from .inputs import viewed
from .plan import Segment

if TYPE_CHECKING:
    from .layers.base import Layer, Parameter

ALIGNMENT = 64  # bytes


class Arrays(dict):
    """Arrays of parameters by path; assigning to a path writes into the array that is there."""

    def __init__(self, parameters: dict[str, Parameter]):
        super().__init__({path: p.value for path, p in parameters.items()})
        self._parameters = parameters

    def __setitem__(self, path: str, array) -> None:
        self._parameters[one_of("parameters", path, self)].value = viewed(f"parameters[{path!r}]", array)

    def update(self, *arrays, **more) -> None:
        for path, array in dict(*arrays, **more).items():
            self[path] = array

    def __reduce__(self):
        return dict, (dict(self),)  # a copy is apart from the net


class Store:
    """All parameters of a layer in one array.

    Attributes
    ----------
    memory : Memory
        Trained parameters in layer order, then state such as running means.
    segments : dict
        Parameter -> Segment(offset, size) in elements; the key None stands for the whole array.
    trained_elements : int
        Length of the trained part, and so of gradients and optimizer arrays.
    """

    def __init__(self, layer: Layer, dtype: str, backend=None):
        named = list(layer.named_parameters())
        if len({id(p) for _, p in named}) < len(named):
            raise ValueError(f"{type(layer).__name__}: expected every layer once in a net, got one twice")
        self.named: dict[str, Parameter] = dict(named)
        self.segments: dict[Parameter | None, Segment] = {}
        step, offset = ALIGNMENT // np.dtype(dtype).itemsize, 0
        for state in (False, True):
            for p in self.named.values():
                if p.state == state:
                    self.segments[p] = Segment(offset, p.size)
                    offset += -(-p.size // step) * step
            if not state:
                self.trained_elements = offset
        self.segments[None] = Segment(0, offset)
        self.memory = backends.Memory(backend or backends.get(dtype), "parameters", offset, dtype)

    @property
    def array(self) -> np.ndarray:
        """The memory on the host, up to date."""
        return self.memory.array

    def view(self, array: np.ndarray, parameter: Parameter) -> np.ndarray:
        """The part of a flat array (parameters, gradients, optimizer state) that belongs to a parameter."""
        s = self.segments[parameter]
        return array[s.offset : s.offset + s.size].reshape(parameter.shape)

    def trained(self) -> list[tuple[Parameter, Segment]]:
        """Trained parameters with their segments, in order."""
        return [(p, s) for p, s in self.segments.items() if p is not None and not p.state]

    def draw(self, seed: int) -> None:
        """Initialise every parameter from its own stream of (seed, position) and let it live here."""
        array = self.array
        for i, (path, p) in enumerate(self.named.items()):
            p.name = path
            rng = np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), i]))
            self.view(array, p)[...] = p._value if p._value is not None else p.drawn(rng)
        for p in self.named.values():  # only now: a refused draw leaves the layers free
            p.adopt(self.view(array, p), self)
