# SPDX-License-Identifier: Apache-2.0
"""Masks of dropout that are drawn once: on a CPU the forward pass keeps them, a bit an element, for the backward pass.

Drawing costs 0.4 ns an element (AVX2, one core), reading a bit next to nothing. A GPU draws while it waits for memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .. import _core
from ..graph import Node, Value
from ..ops import Dropout


def keep_masks(nodes: list[Node], backend) -> list[Node]:
    """The list whose dropouts after the first of the same random op read what that one has kept."""
    if backend.name != "cpu":
        return nodes
    uses = Counter(node.random_op for node in nodes if _drops(node))
    masks: dict[int, Value] = {}

    def shared(node: Node) -> Node:
        if not _drops(node) or uses[node.random_op] == 1:
            return node
        name = "operand" if node.random_op in masks else "out"
        mask = masks.setdefault(node.random_op, _mask(node))
        return replace(node, operands={**node.operands, name: mask})

    return [shared(node) for node in nodes]


def _drops(node: Node) -> bool:
    return node.op is Dropout and node.numbers[0] > 0


def _mask(node: Node) -> Value:
    """Its bits, a byte for eight columns."""
    y, align = node.value, _core.MASK_ALIGN
    return Value(f"kept{node.random_op}", (*y.shape[:-1], -(-y.cols // align) * align // 8), dtype="u8", trace=y.trace)
