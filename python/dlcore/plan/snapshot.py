# SPDX-License-Identifier: Apache-2.0
"""What predictions read that the parameters alone decide, made once: packed weights, scales and shifts of norms, biases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

from ..graph import Node, Value, substitute
from .place import ALIGNMENT
from .plan import Plan
from .record import itemsize

KIND = "snapshot"  # of its values, and the name of its arena


class Snapshot:
    """Places in one arena for everything of that kind; plans of the same net, of any number of rows, share it.

    Attributes
    ----------
    bytes : int
        Size of the arena.
    """

    def __init__(self, backend):
        self.backend, self.bytes = backend, 0
        self._made: dict[Hashable, Value] = {}  # by what a value is made of
        self._keys: dict[Value, Hashable] = {}
        self._nodes: list[Node] = []
        self._sealed = False

    def read_by(self, nodes: list[Node]) -> list[Node]:
        """The list without what the snapshot holds, which it reads from there; what is new is taken in."""
        held: dict[Value, Value] = {}
        rest = []
        for node in nodes:
            if self._decided(node, held):
                self._hold(node, held)
            else:
                rest.append(node)
        read = dict.fromkeys(v for node in rest for v in node.reads() if v.kind == "parameter")
        held.update({v: self._place(v, v.parameter) for v in read})
        return substitute(rest, held)

    @property
    def places(self) -> list[list]:
        """Layout, pitch, dtype, shape and offset of all that it holds: two that agree in it can have each other's arena."""
        return [[v.layout, v.ld, v.dtype, list(v.shape), v.offset] for v in self._made.values()]

    def fill(self, segments: Mapping, parameters, memory, threads: int) -> None:
        """Make it all from the parameters of a store's memory; nothing is taken in after."""
        self._sealed = True
        into, source = memory.array, parameters.array
        for key, value in self._made.items():
            if value.parameter is key:
                first, (begin, size) = value.offset // into.itemsize, (segments[key].offset, segments[key].size)
                into[first : first + size] = source[begin : begin + size]
        if self._nodes:
            plan = Plan(self.backend, self._nodes, segments)
            arenas = {"parameters": parameters.base, KIND: memory.base, "scratch": self.backend.allocate(plan.scratch_bytes)}
            plan.run(arenas, threads=threads)

    def _decided(self, node: Node, held: Mapping[Value, Value]) -> bool:
        plain = node.writes() and not node.chain and not node.updates()
        return bool(plain) and all(v.kind == "parameter" or v in held for v in node.reads())

    def _hold(self, node: Node, held: dict[Value, Value]) -> None:
        source = (node.op, node.numbers, node.function, *(v.parameter or self._keys[held[v]] for v in node.reads()))
        outputs = {v: (source, name, v.layout, v.ld, v.dtype) for name, v in node.operands.items() if v in node.writes()}
        new = not all(key in self._made for key in outputs.values())
        held.update({v: self._place(v, key) for v, key in outputs.items()})
        if new:
            self._nodes += substitute([node], held)

    def _place(self, value: Value, key: Hashable) -> Value:
        if key not in self._made:
            if self._sealed:
                raise RuntimeError(f"Snapshot: expected what it holds, got {value.name}")
            self._made[key] = made = replace(value, kind=KIND, offset=self.bytes)
            self._keys[made] = key
            self.bytes += -(-made.elements * itemsize(made, self.backend) // ALIGNMENT) * ALIGNMENT
        return self._made[key]
