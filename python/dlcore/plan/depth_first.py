# SPDX-License-Identifier: Apache-2.0
"""Depth first: blocks of rows through a run of layers, forward and backward, what they make kept in cache.

A run is as long as every node works row by row, weight gradients too where their depth is cut. Where the values that
only the run reads are larger than a cache, they get room for one block instead of the whole batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from .. import _core, ops
from ..graph import Node, Value
from .place import ALIGNMENT, Block, place
from .sections import CHUNK_ROWS, Section, cut, merge_serial

GRADIENT_ROWS = 128  # a block is a multiple of what a weight gradient adds at once, so its bits stay the same
WORTH_BYTES = 1 << 20  # of local values, for the whole batch: less stays in cache anyway
BLOCK_BYTES = 1 << 19  # of a block: half of a second-level cache of 1 MB
UNITS, LEAST_UNITS = 32, 8  # what threads take: as many at best, and no section for fewer


def sections(
    nodes: list[Node], phases: Mapping[Node, int], depths: Mapping[Node, int], elsewhere: set[Value],
    itemsize: Callable[[Value], int],
) -> list[Section]:  # fmt: skip
    """Sections of a node list, runs depth first where that is worth it.

    ``phases``: those that a node's kernel takes. ``depths``: rows that an item of a weight gradient takes, 0 where its
    depth is not cut, -1 of a product whose items are not chunks of rows. ``elsewhere``: what nodes outside of the list read.
    """
    parts: list[Section] = []
    readers = _readers(nodes)
    for run in _runs(nodes, depths):
        first = [n for n in run if _prepares(n)]
        rest = tuple(n for n in run if not _prepares(n))
        inside = _readers(rest)
        others = {v for n in rest for v in n.writes() if v in elsewhere or readers[v] > inside[v]}
        section = _depth_first(rest, others, depths, itemsize)
        parts += [*cut(first, phases), section] if section else cut(run, phases)
    return merge_serial(parts)


def _readers(nodes: Iterable[Node]) -> Counter[Value]:
    """How often each value is read."""
    return Counter(v for n in nodes for v in n.reads())


def _runs(nodes: Iterable[Node], depths) -> Iterator[list[Node]]:
    """Maximal runs of nodes over the same rows that read nothing of each other but rows."""
    run: list[Node] = []
    rows, merged = 0, set()
    for node in nodes:
        own = rows if _prepares(node) else _rows(node, depths)
        if run and (own != rows or merged.intersection([*node.reads(), *node.updates()])):
            yield run
            run, rows, merged = [], 0, set()
        rows = rows or own
        run.append(node)
        if not _prepares(node):
            merged.update(v for v in [*node.writes(), *node.updates()] if v.rows != rows or _is_gradient(node))
    yield run


def _prepares(node: Node) -> bool:
    """Does it only put parameters into another order?"""
    return node.op is ops.Pack and all(v.kind == "parameter" for v in node.reads())


def _is_gradient(node: Node) -> bool:
    return node.op is ops.Product and int(node.numbers[0]) == ops.ROLE_TN


def _rows(node: Node, depths) -> int:
    """Rows that the first phase of a node can be cut along, or 0."""
    if depths.get(node, 0) < 0:  # its items are larger panels, or splits of the depth
        return 0
    if _is_gradient(node):
        return node.operands["a"].rows if depths[node] else 0
    whole = node.value or next(iter(node.writes()), None)
    return whole.rows if node.op.rowwise and whole is not None else 0


def _depth_first(nodes: tuple[Node, ...], elsewhere: set[Value], depths, itemsize) -> Section | None:
    """The section of a run, or None where keeping a block only would gain nothing."""
    rows = _rows(nodes[0], depths) if nodes else 0
    blocks = [
        Block(v, -(-v.cols * itemsize(v) // ALIGNMENT) * ALIGNMENT, first, last)
        for v, (first, last) in _spans(nodes, rows).items()
        if v not in elsewhere
    ]
    local, size = place(blocks)
    row_bytes = (size // ALIGNMENT | 1) * ALIGNMENT  # an odd number of lines spreads a column over the sets of a cache
    cuts = [d for n in nodes if (d := depths.get(n, 0))]
    block_rows = _block_rows(rows, row_bytes, cuts)
    if not local or rows * size < WORTH_BYTES or not block_rows or rows <= (LEAST_UNITS - 1) * max([block_rows, *cuts]):
        return None
    return Section(nodes, block_rows=block_rows, local=local, row_bytes=row_bytes)


def _spans(nodes: tuple[Node, ...], rows: int) -> dict[Value, tuple[int, int]]:
    """First and last node of every value of which a block can stand for the whole."""
    spans: dict[Value, tuple[int, int]] = {}
    for i, node in enumerate(nodes):
        for v in node.writes():
            if v.kind == "temporary" and v.layout == "row_major" and v.rows == rows and not _is_gradient(node):
                spans.setdefault(v, (i, i))
        for v in node.reads():
            if v in spans:
                spans[v] = (spans[v][0], i)
    return spans


def _block_rows(rows: int, row_bytes: int, depths: list[int]) -> int:
    """The most rows whose local values fit, that all depths can be cut into; 0 where there are none."""
    if not depths:
        even = -(-rows // UNITS // CHUNK_ROWS) * CHUNK_ROWS
        most = max(CHUNK_ROWS, min(even, BLOCK_BYTES // row_bytes // CHUNK_ROWS * CHUNK_ROWS))
        return most if most * row_bytes <= _core.LOCAL_BYTES else 0
    if any(max(depths) % d for d in depths):
        return 0
    fitting = [b for b in range(GRADIENT_ROWS, min(depths) + 1, GRADIENT_ROWS) if all(d % b == 0 for d in depths)]
    fitting = [b for b in fitting if b * row_bytes <= BLOCK_BYTES] or fitting[:1]
    return fitting[-1] if fitting and fitting[-1] * row_bytes <= _core.LOCAL_BYTES else 0
