# SPDX-License-Identifier: Apache-2.0
"""Last pass: nodes with placed values become instructions over arena offsets, recorded by the backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import _core
from ..graph import Node, Value
from ..ops import Accumulate, Pack, Stage

ITEM = {
    "f32": 4,
    "f64": 8,
    "f16": 2,
    "bf16": 2,
    "u8": 1,
    "i8": 1,
    "u16": 2,
    "i16": 2,
    "u32": 4,
    "i32": 4,
    "u64": 8,
    "i64": 8,
}
ABSENT = _core.View()


def itemsize(value: Value, backend) -> int:
    """Bytes of an element."""
    return np.dtype(backend.real).itemsize if value.dtype == "real" else ITEM[value.dtype]


class Lowering:
    """From nodes to instructions: where each value lives, and the ids that the backend gives to formulas."""

    def __init__(self, backend, arenas: dict[str, int], offset_of: Callable[[Value], int]):
        self.backend, self.arenas, self.offset_of = backend, arenas, offset_of
        self.local: dict[Value, tuple[int, int]] = {}  # (offset, bytes of a row) of values of which a block is kept
        self.places: dict[Value, Value] = {}  # values that lie where another one does
        self.real = "f32" if backend.real == "float32" else "f64"

    def itemsize(self, value: Value) -> int:
        return itemsize(value, self.backend)

    def view(self, value: Value | None) -> _core.View:
        if value is None:
            return ABSENT
        value = self.places.get(value, value)
        dtype = self.real if value.dtype == "real" else value.dtype
        if value in self.local:
            offset, row_bytes = self.local[value]
            ld = row_bytes // ITEM[dtype]
            return _core.View(_core.LOCAL_ARENA, dtype, rows=value.rows, cols=value.cols, ld=ld, offset=offset)
        return _core.View(
            arena=self.arenas.setdefault(value.arena, len(self.arenas)), dtype=dtype,
            layout=value.layout, rows=value.rows, cols=value.cols, ld=value.pitch,
            step=value.step, offset=self.offset_of(value),
        )  # fmt: skip

    def instruction(self, node: Node, scratch: tuple[int, int] | None = None) -> _core.Instruction:
        """The instruction of a kernel node; ``scratch`` is (offset, bytes) of the kernel's own memory."""
        operands = [self.view(node.operands.get(name)) for name in node.op.signature]
        numbers = list(node.numbers)
        if node.op.kernel == "loss":
            numbers.insert(0, float(self.backend.losses[node.function]))
        if node.op.kernel == "update":
            numbers.insert(0, float(self.backend.rules[node.function][0]))
        whole = node.value or next(iter(node.writes()), None)
        shape = (whole.rows, whole.cols) if whole is not None else (0, 0)
        memory = ABSENT
        if scratch is not None:
            offset, size = scratch
            arena = self.arenas.setdefault("scratch", len(self.arenas))
            memory = _core.View(arena=arena, dtype="u8", rows=1, cols=size, ld=size, offset=offset)
        chain = [stage for s in node.chain for stage in self.stages(s)]
        if node.op is Pack and "packed2" not in node.operands:
            numbers[1] = 0.0
        return _core.Instruction(
            node.op.kernel,
            rows=shape[0],
            cols=shape[1],
            operands=operands,
            chain=chain,
            numbers=numbers,
            scratch=memory,
        )

    def stages(self, node: Node) -> list[_core.Stage]:
        """A stage node as one stage (an accumulation also stores)."""
        if not issubclass(node.op, Stage):
            raise TypeError(f"chain: expected a stage, got {node.op.__name__}")
        views = {name: self.view(v) for name, v in node.operands.items() if name not in ("x", "accumulator")}
        numbers = (*node.numbers, 0.0, 0.0, 0.0, 0.0)[:4]
        function = self.backend.activations[node.function][0] if node.function else 0
        if node.op is Accumulate:
            total = self.view(node.operands["accumulator"])
            return [_core.Stage("add", operand=total), _core.Stage("store", out=total)]
        return [_core.Stage(node.op.stage, function=function, random_op=node.random_op, numbers=numbers, **views)]


def view_bytes(view) -> int:
    """Bytes that a view covers, as the runner counts them."""
    parts = view.ld if view.layout in ("planes", "parts") else 1
    return view.rows * view.cols * ITEM[view.dtype] * parts if view.arena >= 0 else 0


def instruction_bytes(instruction) -> int:
    """Bytes of all views of an instruction: what its listing says and the runner counts."""
    total = sum(view_bytes(v) for v in instruction.operands) + view_bytes(instruction.scratch)
    for stage in instruction.chain:
        views = (
            stage.operand,
            stage.operand_scale,
            stage.operand_shift,
            stage.a,
            stage.b,
            stage.c,
            stage.out,
            stage.out2,
        )
        total += sum(map(view_bytes, views))
    return total
