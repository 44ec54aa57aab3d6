# SPDX-License-Identifier: Apache-2.0
"""The hyper table: one row of numbers for each update, in the columns of csrc/backend.h."""

from __future__ import annotations

from struct import Struct

import numpy as np

from .. import _core

# What is not named in a row, in the order of the columns, which have no gaps.
DEFAULTS = {name: float(name.startswith("correction")) for name in sorted(_core.HYPER_INDEX, key=_core.HYPER_INDEX.get)}
_pack = Struct(f"{len(DEFAULTS)}d").pack_into


def fill_row(row, numbers: dict[str, float]) -> None:
    """Write the names of `Optimizer.row` into a row, a buffer of doubles."""
    _pack(row, 0, *{**DEFAULTS, **numbers}.values())


def hyper_row(numbers: dict[str, float]) -> np.ndarray:
    """One row from the names of `Optimizer.row`; what is not named is 0 (corrections 1)."""
    row = np.zeros(_core.HYPER)
    fill_row(row, numbers)
    return row


def hyper_table(optimizer, first: int, count: int, updates_per_epoch: int) -> np.ndarray:
    """Rows of updates ``first`` to ``first + count - 1``."""
    return np.stack([hyper_row(optimizer.row(first + i, updates_per_epoch)) for i in range(count)])
