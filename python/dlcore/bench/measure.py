# SPDX-License-Identifier: Apache-2.0
"""One case: its answers are checked, then its variants are timed in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import timing
from .cases import Case
from .peak import Peak
from .programs import FUSED, NAIVE, UNFUSED
from .subject import Subject

ROUND_SECONDS = 0.05  # of a variant in a round


@dataclass(frozen=True)
class Measured:
    """One part of a case: a row for each variant, and what each of the planner's flags brings (None: no change)."""

    row: str
    rows: list[dict[str, Any]]
    gains: dict[str, timing.Gain | None]


def measure(case: Case, threads: int, rounds: int, peak: Peak, device: str = "cpu", **products) -> list[Measured]:
    """All parts of a case; ``products``: gemm and precision, where they are not the usual ones.

    Raises
    ------
    WrongAnswer
        Before anything is timed.
    """
    subject = case.subject(threads, device, **products)
    errors = subject.check()
    return [_part(subject, part, errors, rounds, peak) for part in subject.parts]


def _part(subject: Subject, part: str, errors, rounds: int, peak: Peak) -> Measured:
    timers = {name: timing.Timer(run) for name, run in subject.contestants(part).items()}
    turns = {name: lambda t=t: t(ROUND_SECONDS) / subject.copies for name, t in timers.items()}
    seconds = timing.interleave(turns, rounds)
    row = f"{subject.name} {part}"
    rows = []
    for variant, taken in seconds.items():
        result, cost = timing.summary(taken), subject.cost(variant, part)
        rows.append({
            "row": row, "variant": variant, "ms": 1e3 * result.seconds, "spread": result.spread,
            "ratio": timing.ratio(seconds[NAIVE], taken),
            "bytes": cost and cost.bytes, "flops": cost and cost.flops,
            "share_of_peak": cost and peak.share(result.seconds, cost.flops, cost.bytes, cost.live),
            "live": cost and cost.live, "error": errors[variant, part],
        })  # fmt: skip
    fusible = subject.cost(UNFUSED, part) != subject.cost(FUSED, part)
    gains = {
        "recording": timing.gain(seconds[NAIVE], seconds[UNFUSED]),
        "fusion": timing.gain(seconds[UNFUSED], seconds[FUSED]) if fusible else None,
    }
    return Measured(row, rows, gains)
