# SPDX-License-Identifier: Apache-2.0
"""The planner: trace -> differentiate -> append update -> fuse -> place -> record, each a function from list to list."""

from __future__ import annotations

from .. import _core
from ..graph import Trace, Value, substitute
from .fuse import fuse as fuse_chains
from .fuse import unfused
from .plan import Plan, Segment
from .precision import choose_terms
from .programs import Batch, Source, UpdateSpec, evaluation, prediction, training

__all__ = ["Batch", "Plan", "Segment", "Source", "UpdateSpec", "evaluation", "finish", "prediction", "training"]


def finish(
    backend,
    trace: Trace,
    segments,
    *,
    precision: str = "float32",
    fuse: bool = True,
    record: bool = True,
    targets: dict[Value, Value] | None = None,
    replay: bool = False,
) -> Plan:
    """The last passes. ``precision``: how products are made, a name of `_core.PRECISIONS`.

    ``targets`` maps results to the caller's arrays that receive them; ``replay``: the last part
    may run more than once after those before it.

    ``fuse=False, record=False`` is the naive reference: one kernel a node, every value stored, one call a kernel.
    """
    nodes = choose_terms(substitute(trace.nodes, targets or {}), backend, precision)
    if fuse:
        nodes = fuse_chains(nodes, lambda role, *shape: (backend.layout(_core.ROLES[role], *shape), backend.strip))
    else:
        nodes = unfused(nodes)
    return Plan(backend, nodes, segments, precision=precision, record=record, replay=replay)
