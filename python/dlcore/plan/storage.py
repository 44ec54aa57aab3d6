# SPDX-License-Identifier: Apache-2.0
"""Which values between kernels are held in 16 bits: activations and their gradients, on a GPU whose products take one part.

Parts of one are what products read, so nothing is stored twice. Weights, their gradients, sums, moments and statistics
stay float32, and what a loss or softmax reads: a loss takes its target from it, which would magnify the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..graph import Node, Value, substitute
from ..ops import ROLE_TN, LayerNorm, LayerNormBackward, Product, Stage
from .fuse import stored
from .precision import HALVES, terms_of


def choose_storage(nodes: list[Node], backend, precision: str) -> list[Node]:
    """The list in which the values that fused kernels exchange are rounded to 16 bits, fused or not: both round alike."""
    if backend.unit_layout != "parts" or not any(terms_of(node) == 1 for node in nodes):
        return nodes
    halves = stored(nodes) & _made(nodes) - {v for node in nodes if not _reads_halves(node) for v in node.reads()}
    held = {v: replace(v, dtype=HALVES[precision], layout="parts", ld=1) for v in halves}
    return substitute(nodes, held)


def _made(nodes: Iterable[Node]) -> set[Value]:
    """Temporaries (rows, columns) that nodes compute, gradients of weights left out."""
    values = {node.value for node in nodes if not (node.op is Product and int(node.numbers[0]) == ROLE_TN)}
    return {v for v in values if v is not None and v.kind == "temporary"}


def _reads_halves(node: Node) -> bool:
    return terms_of(node) == 1 or issubclass(node.op, Stage) or node.op in (LayerNorm, LayerNormBackward)
