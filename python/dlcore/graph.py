# SPDX-License-Identifier: Apache-2.0
"""Values, nodes and the trace: the flat list that every pass of the planner reads and returns.

A node is one application of an op (ops.py). Its operands are named; the name's mark in the op's signature says what the
node does with the value: ``x`` reads it, ``x>`` writes it, ``x!`` updates it in place, a trailing ``?`` makes it optional.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layers.base import Parameter
    from .ops import Op

# columns and dtype of the shared tables, as csrc/backend.h lays them out
TABLES = {"counters": (8, "i64"), "metrics": (4, "f64"), "grad_scale": (2, "f64")}

BLOCK_COLUMNS = 64  # of the smallest block of a product: threads share the columns of what is wider
LINE = 16  # floats of a cache line

ARENA_OF_KIND = {
    "temporary": "scratch",
    "parameter": "parameters",
    "gradient": "gradients",
    "table": "tables",
    "constant": "constants",
}


@dataclass(frozen=True, eq=False)
class Value:
    """A symbolic array: shape, storage, and where it lives.

    ``kind`` is ``temporary`` (placed in scratch), ``parameter``, ``gradient`` (with ``parameter`` set), ``table`` (counters,
    metrics, grad_scale), ``constant`` (numbers known to the plan), or the name of an arena that the caller gives: ``x``,
    ``y``, ``weight``, ``order``, ``hyper``, ``results``, ``out`` ...
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "temporary"
    dtype: str = "real"
    layout: str = "row_major"
    ld: int | None = None
    step: int = 1
    offset: int = 0
    parameter: Parameter | None = None
    constant: tuple[float, ...] | None = None
    trace: Trace | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def cols(self) -> int:
        return self.shape[-1]

    @property
    def arena(self) -> str:
        return ARENA_OF_KIND.get(self.kind, self.kind)

    @property
    def elements(self) -> int:
        """Elements of storage, padding included."""
        if self.layout == "strips":
            return -(-self.cols // self.ld) * self.ld * self.rows
        if self.layout == "planes":
            return -(-self.cols // 32) * -(-self.rows // 32) * 1024 * self.ld
        if self.layout == "parts":
            return self.ld * self.rows * -(-self.cols // 8) * 8
        return self.rows * self.pitch

    @property
    def pitch(self) -> int:
        """Elements from row to row; threads that share the columns of a temporary have cache lines of their own.

        Nets 100 to 300 wide, two threads: 2 to 9 % faster, 200 the same.
        """
        if self.ld is not None:
            return self.ld
        shared = self.kind == "temporary" and self.cols > BLOCK_COLUMNS
        return -(-self.cols // LINE) * LINE if shared else self.cols


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an op. ``value`` is what it computes (what enters the chain, of a kernel).

    ``context`` names values that the op's gradient needs to know and the op itself does not read.
    """

    op: type[Op]
    operands: dict[str, Value]
    value: Value | None = None
    numbers: tuple[float, ...] = ()
    function: str | None = None
    random_op: int = 0
    section: str = "gradients"
    chain: tuple[Node, ...] = ()
    context: dict[str, Value] = field(default_factory=dict)

    def _marked(self, mark: str) -> list[Value]:
        return [self.operands[n] for n, m in self.op.signature.items() if m == mark and n in self.operands]

    def reads(self) -> list[Value]:
        """Values read: own operands, in-place ones included, and those of the chain's stages."""
        return self._reads

    @cached_property
    def _reads(self) -> list[Value]:
        own = self._marked("") + self._marked("!")
        produced = {self.value} | {s.value for s in self.chain}
        return own + [v for s in self.chain for v in s.reads() if v not in produced]

    def writes(self) -> list[Value]:
        """Values written to memory. A kernel's ``value`` is written only by the ``store`` stages of its chain."""
        own = self._marked(">")
        return own + [v for s in self.chain for v in s.writes()]

    def updates(self) -> list[Value]:
        """Values updated in place."""
        return self._marked("!") + [v for s in self.chain for v in s.updates()]


class Trace:
    """The node list under construction, and what belongs to one trace: mode, random ops, parameters met."""

    def __init__(self, training: bool):
        self.training = training
        self.nodes: list[Node] = []
        self.parameters: dict[Parameter, Value] = {}
        self.seeds: list[tuple[Value, Value]] = []  # (prediction, its gradient), written by the losses
        self.tables: dict[str, Value] = {}
        self.random_ops = 0
        self.section = "gradients"
        self._names: dict[str, int] = {}
        self.path: list[str] = []  # of the layer being traced, for errors and names

    def value(self, name: str, shape: tuple[int, ...], **fields) -> Value:
        """A new value with a unique name."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return Value(f"{name}.{count}" if count else name, tuple(int(n) for n in shape), trace=self, **fields)

    def parameter(self, parameter: Parameter) -> Value:
        """The value of a layer's parameter, one for each parameter of the trace."""
        if parameter not in self.parameters:
            self.parameters[parameter] = self.value(
                parameter.name or "parameter", parameter.matrix_shape, kind="parameter", parameter=parameter
            )
        return self.parameters[parameter]

    def gradient(self, parameter: Parameter) -> Value:
        """The value that receives a parameter's gradient: the gradient arena at the parameter's offset."""
        name = f"d{parameter.name or 'parameter'}"
        return self.value(name, parameter.matrix_shape, kind="gradient", parameter=parameter)

    def table(self, name: str) -> Value:
        """One of the small tables that every recording shares: counters, metrics, grad_scale."""
        if name not in self.tables:
            cols, dtype = TABLES[name]
            self.tables[name] = self.value(name, (1, cols), kind="table", dtype=dtype)
        return self.tables[name]

    def append(
        self,
        op: type[Op],
        value: Value | None = None,
        *,
        numbers=(),
        function=None,
        random_op=0,
        context=None,
        **operands,
    ):
        """Append one node and return its value."""
        kept = {name: v for name, v in operands.items() if v is not None}
        unknown = set(kept) - set(op.signature)
        if unknown:
            raise TypeError(f"{op.__name__}: expected operands {tuple(op.signature)}, got {sorted(unknown)}")
        numbers = tuple(float(n) for n in numbers)
        self.nodes.append(Node(op, kept, value, numbers, function, random_op, self.section, context=context or {}))
        return value


def substitute(nodes: list[Node], targets: dict[Value, Value]) -> list[Node]:
    """The same nodes with some values replaced, such as a result that belongs in a caller's array."""
    if not targets:
        return list(nodes)

    def swap(node: Node) -> Node:
        operands = {name: targets.get(v, v) for name, v in node.operands.items()}
        value = targets.get(node.value, node.value) if node.value is not None else None
        return replace(node, operands=operands, value=value, chain=tuple(map(swap, node.chain)))

    return [swap(node) for node in nodes]
