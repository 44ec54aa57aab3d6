# SPDX-License-Identifier: Apache-2.0
"""Every temporary gets an offset in the scratch arena; two values share memory only if never alive together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from ..graph import Value
from ..ops import Pointwise


@dataclass(frozen=True)
class Block:
    """Bytes that are alive from node ``first`` to node ``last``, both included."""

    key: object
    size: int
    first: int
    last: int


ALIGNMENT = 64
FIXED = ("parameter", "gradient", "table", "constant")  # kinds of values that outlive the plan's run


def in_place(nodes, kept: Container[Value] = ()) -> dict[Value, Value]:
    """Values that lie where their only reader, a pointwise kernel, stores its result: each with that result.

    A kernel that goes element by element has read a block before it writes it. Values in ``kept`` stay where they are.
    """
    readers: dict[Value, list] = defaultdict(list)
    maker = {v: node for node in nodes for v in node.writes()}
    for node in nodes:
        for v in node.reads():
            readers[v].append(node)
    found: dict[Value, Value] = {}
    for node in reversed(nodes):
        v = node.operands.get("x")
        if node.op is not Pointwise or v.kind != "temporary" or readers[v] != [node] or v in kept:
            continue
        alike = [w for w in node.writes() if (w.shape, w.layout, w.dtype) == (v.shape, v.layout, v.dtype)]
        stored = [w for w in alike if w.kind not in FIXED and w not in kept]
        if stored and maker[v].section == node.section:
            found[v] = found.get(stored[-1], stored[-1])
    return found


def lifetimes(nodes, size_of, scratch_of, places: Mapping[Value, Value] | None = None) -> list[Block]:
    """Blocks of the temporaries of a node list and of the kernels' own scratch (key: the node).

    ``places``: as `in_place` finds them.
    """
    places = places or {}
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    blocks = []
    for i, node in enumerate(nodes):
        for v in [*node.writes(), *node.updates(), *node.reads()]:
            v = places.get(v, v)
            if v.kind == "temporary":
                first.setdefault(v, i)
                last[v] = i
        if own := scratch_of(node):
            blocks.append(Block(node, own, i, i))
    return blocks + [Block(v, size_of(v), first[v], last[v]) for v in first]


def place(blocks: Sequence[Block]) -> tuple[dict[object, int], int]:
    """Offsets by block key, and the bytes of the arena: largest first, each at the lowest gap that is free in its lifetime."""
    placed: list[tuple[int, int, Block]] = []
    offsets: dict[object, int] = {}
    total = 0
    for block in sorted(blocks, key=lambda b: (-b.size, b.first)):
        taken = sorted((o, e) for o, e, other in placed if other.first <= block.last and block.first <= other.last)
        offset = 0
        for begin, end in taken:
            if offset + block.size <= begin:
                break
            offset = max(offset, end)
        end = -(-(offset + block.size) // ALIGNMENT) * ALIGNMENT
        placed.append((offset, end, block))
        offsets[block.key] = offset
        total = max(total, end)
    return offsets, total
