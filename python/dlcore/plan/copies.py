# SPDX-License-Identifier: Apache-2.0
"""Parts of weights that outlive a step: packed where a run begins, and by the update that changes the weights."""

from __future__ import annotations

from dataclasses import replace

from .. import _core
from ..graph import Node, Value, substitute
from ..ops import Pack, Update

PART = "weights"  # of a plan, before the first step of a run


def keep_copies(nodes: list[Node]) -> list[Node]:
    """The list whose packs of weights, if an update can write them, are no longer part of a step."""
    update = next((node for node in nodes if node.op is Update), None)
    packs = [node for node in nodes if node.op is Pack and not node.chain and _may_keep(node.operands)]
    if update is None or not packs:
        return nodes
    packed = packs[0].operands["packed"]
    kept = {n.operands["packed"]: _kept(**n.operands) for n in packs}
    copies = Value("copies", (1, packed.ld * update.operands["w"].cols), kind="copies", dtype=packed.dtype)
    rest = (replace(n, operands={**n.operands, "copies": copies}) if n is update else n for n in nodes if n not in packs)
    return substitute([*(replace(n, section=PART) for n in packs), *rest], kept)


def _may_keep(operands: dict[str, Value]) -> bool:
    """Parts of whole rows of 8 follow one another as the weights do."""
    x, packed = operands["x"], operands["packed"]
    return x.kind == "parameter" and packed.layout == "parts" and x.cols % _core.PART_ALIGN == 0


def _kept(x: Value, packed: Value) -> Value:
    return replace(packed, kind="copies", parameter=x.parameter)
