# SPDX-License-Identifier: Apache-2.0
"""Which instructions run without a barrier between them, and which are too small for two threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from .. import ops
from ..graph import Node, Value
from .precision import product_shape, terms_of

CHUNK_ROWS = 64
# Waking and joining a second thread costs one to two microseconds; below this estimate one thread does the work alone.
SERIAL_NS = 4000.0
# What another step that threads share costs above half its work: they wait, read what the other wrote, have unequal shares.
# Nets 64 to 256 wide, batch 64 to 256, two threads: 3.5 to 5.9 us where cores share a cache, 12.7 to 19.4 where they do not.
STEP_NS = 6000.0
LEAST_CHUNKS = 16  # fewer would leave threads idle where a product alone has work for them
PRODUCT_FLOPS_PER_NS = 80.0
FACTOR_BYTES_PER_NS = 40.0  # a product with few rows reads the other factor from the cache that threads share, or farther
STAGE_NS = {"dropout": 0.6, "activate": 0.4, "activate_grad": 0.5}  # an element, one thread, AVX2
ELEMENT_NS = 0.15


@dataclass(frozen=True)
class Section:
    """Nodes that run without a barrier between them.

    ``block_rows`` = 0: one after another, each over all its items; else blocks of so many rows go through all nodes.
    ``local``: byte offsets of values of which only a block is kept, in rows of ``row_bytes``. ``serial``: on one thread.
    """

    nodes: tuple[Node, ...]
    serial: bool = False
    block_rows: int = 0
    local: Mapping[Value, int] = field(default_factory=dict)
    row_bytes: int = 0


def flops(node: Node) -> float:
    """Multiplications and additions of a product; one for each element and stage otherwise."""
    if node.op is ops.Product:
        m, n, k = product_shape(int(node.numbers[0]), node.operands["a"], node.operands["b"])
        return 2.0 * m * n * k + m * n * len(node.chain)
    sizes = [v.rows * v.cols for v in [node.value, *node.operands.values()] if v is not None and v.kind not in CALLER]
    return float(max(sizes, default=0) * (1 + len(node.chain)))


CALLER = ("x", "y", "weight", "order", "hyper", "results")


def estimate_ns(node: Node) -> float:
    """Rough time on one thread."""
    if node.op is ops.Product:
        m, n, k = product_shape(int(node.numbers[0]), node.operands["a"], node.operands["b"])
        base, elements = max(2.0 * m * n * k / PRODUCT_FLOPS_PER_NS, 4.0 * n * k / FACTOR_BYTES_PER_NS), m * n
    else:
        elements = flops(node) / (1 + len(node.chain))
        base = elements * ELEMENT_NS * 2
    return base + elements * sum(STAGE_NS.get(s.op.stage, ELEMENT_NS) for s in node.chain)


def cut(nodes: list[Node], phases: Mapping[Node, int]) -> list[Section]:
    """Sections of a node list; ``phases``: those that a node's kernel takes."""
    parts: list[Section] = []
    for chunks, run in groupby(nodes, key=lambda n: _row_chunks(n, phases)):
        group = tuple(run)
        if chunks >= LEAST_CHUNKS and len(group) > 1 and sum(map(estimate_ns, group)) >= SERIAL_NS:
            parts.append(Section(group, block_rows=CHUNK_ROWS))
        else:
            for serial, same in groupby(group, key=lambda n: estimate_ns(n) < SERIAL_NS):
                parts.append(Section(tuple(same), serial))
    return merge_serial(parts)


def _row_chunks(node: Node, phases) -> int:
    """Row chunks of a node whose chunk i needs only chunk i of its inputs; 0 for every other node."""
    if not node.op.rowwise or phases[node] != 1 or node.value is None or terms_of(node):
        return 0
    if node.op is ops.Product and int(node.numbers[0]) == ops.ROLE_TN:
        return 0
    return -(-node.value.rows // CHUNK_ROWS)


def worth_sharing(sections: list[Section], phases: Mapping[Node, int]) -> bool:
    """Do threads gain more by sharing the steps of a plan than they lose?"""
    shared = [s for s in sections if not s.serial]
    work = sum(estimate_ns(n) for s in shared for n in s.nodes)
    steps = sum(sum(phases[n] for n in s.nodes) - (len(s.nodes) - 1 if s.block_rows else 0) for s in shared)
    return any(s.local for s in shared) or work / 2 >= STEP_NS * (steps - 1)


def merge_serial(parts: list[Section]) -> list[Section]:
    """Neighbours that one thread runs anyway, in one section."""
    merged: list[Section] = []
    for part in parts:
        if merged and part.serial and merged[-1].serial:
            merged[-1] = Section(merged[-1].nodes + part.nodes, serial=True)
        else:
            merged.append(part)
    return merged
