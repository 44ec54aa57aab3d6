# SPDX-License-Identifier: Apache-2.0
"""Who is dlcore and who is the fastest peer of a row: the one over whom dlcore's lead, the median of the rounds' ratios, is
the smallest. A peer with the better median of times may have met better rounds."""

from __future__ import annotations

OURS = {"float32": "dlcore", "bf16": "dlcore_bf16"}  # by precision; rows are compared within one
ROWS = ("1", "64", "4096")  # of a prediction


def by_row(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of a result by name."""
    groups: dict[str, list[dict]] = {}
    for r in rows:
        groups.setdefault(r["row"], []).append(r)
    return groups


def peers(rows: list[dict], precision: str = "float32") -> list[dict]:
    """Of one row's contestants those of a precision that dlcore has a lead over; its other kernels are none."""
    return [r for r in rows if r["precision"] == precision and r.get("lead") and not r["contestant"].startswith("dlcore")]


def fastest(rows: list[dict], precision: str = "float32") -> dict | None:
    """The one of `peers` whom dlcore leads least."""
    return min(peers(rows, precision), key=lambda r: r["lead"]["times"], default=None)
