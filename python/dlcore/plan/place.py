# SPDX-License-Identifier: Apache-2.0
"""Fourth pass: every temporary gets an offset in the scratch arena; two values share memory only if never alive together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Value


@dataclass(frozen=True)
class Block:
    """Bytes that are alive from node ``first`` to node ``last``, both included."""

    key: object
    size: int
    first: int
    last: int


ALIGNMENT = 64


def lifetimes(nodes, size_of, scratch_of) -> list[Block]:
    """Blocks of the temporaries of a node list and of the kernels' own scratch (key: the node)."""
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    blocks = []
    for i, node in enumerate(nodes):
        for v in [*node.writes(), *node.updates(), *node.reads()]:
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
