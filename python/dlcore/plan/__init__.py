# SPDX-License-Identifier: Apache-2.0
"""The planner: trace -> differentiate -> append update -> choose -> fuse -> place -> record, each from list to list."""

from __future__ import annotations

from functools import partial

from ..errors import expected
from ..graph import Trace, Value, substitute
from .copies import keep_copies
from .fuse import fuse as fuse_chains
from .fuse import unfused
from .masks import keep_masks
from .plan import Plan, Segment
from .precision import choose_terms, layout_of
from .programs import Batch, Source, UpdateSpec, evaluation, prediction, training
from .snapshot import Snapshot
from .storage import choose_storage

__all__ = ["Batch", "Plan", "Segment", "Snapshot", "Source", "UpdateSpec", "evaluation", "finish", "prediction", "training"]


def finish(
    backend,
    trace: Trace,
    segments,
    *,
    precision: str = "float32",
    gemm: str = "auto",
    fuse: bool = True,
    record: bool = True,
    targets: dict[Value, Value] | None = None,
    replay: bool = False,
    snapshot: Snapshot | None = None,
) -> Plan:
    """The last passes. ``precision``: how products are made, a name of `_core.PRECISIONS`; ``gemm``: by whose
    kernels, of `_core.GEMMS`.

    ``targets`` maps results to the caller's arrays that receive them; ``replay``: the last part
    may run more than once after those before it; what the parameters alone decide is read from the ``snapshot``.

    ``fuse=False, record=False`` is the naive reference: one kernel a node, every value stored, one call a kernel.
    """
    if strange := [p for p in trace.parameters if p not in segments]:
        got = f"another of shape {strange[0].shape}"
        raise ValueError(expected("plan", "the parameters that the net was built with", got, hint="build a new Net"))
    nodes = choose_terms(substitute(trace.nodes, targets or {}), backend, precision, gemm)
    nodes = choose_storage(keep_masks(nodes, backend), backend, precision)
    layout = partial(layout_of, backend, precision, snapshot is not None)
    nodes = keep_copies((fuse_chains if fuse else unfused)(nodes, layout))
    nodes = nodes if snapshot is None else snapshot.read_by(nodes)
    return Plan(backend, nodes, segments, precision=precision, gemm=gemm, record=record, replay=replay)
