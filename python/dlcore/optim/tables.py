# SPDX-License-Identifier: Apache-2.0
"""The hyper table: one row of numbers for each update, in the columns of csrc/backend.h."""

from __future__ import annotations

import numpy as np

from .. import _core


def hyper_row(numbers: dict[str, float]) -> np.ndarray:
    """One row from the names of `Optimizer.row`; what is not named is 0 (corrections 1)."""
    row = np.zeros(_core.HYPER)
    row[_core.HYPER_INDEX["correction1"]] = row[_core.HYPER_INDEX["correction2"]] = 1.0
    for name, value in numbers.items():
        row[_core.HYPER_INDEX[name]] = value
    return row


def hyper_table(optimizer, first: int, count: int, updates_per_epoch: int) -> np.ndarray:
    """Rows of updates ``first`` to ``first + count - 1``."""
    return np.stack([hyper_row(optimizer.row(first + i, updates_per_epoch)) for i in range(count)])
