# SPDX-License-Identifier: Apache-2.0
"""Which rows are held out: a function of the number of rows, the classes and a seed, and of nothing else."""

import numpy as np

from ..errors import DataError, describe, expected


def split(y: np.ndarray, fraction: float, seed: int, stratify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cut the rows in two at random; the same on every machine and with every version of NumPy.

    Parameters
    ----------
    y : ndarray of shape (rows, ...)
        With `stratify`, integer classes of shape (rows,).
    fraction : float
        Of the rows that are held out, between 0 and 1; at least one row is held out and one stays.
    seed : int, at least 0
    stratify : bool
        Hold out the fraction of every class, by largest remainders; at least one row of each class stays.

    Returns
    -------
    kept, held : ndarray of int64
        Sorted row numbers.

    Examples
    --------
    >>> kept, held = split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0, stratify=True)
    >>> len(kept), np.array([0, 0, 0, 0, 1, 1, 1, 1])[held].tolist()
    (6, [0, 1])
    """
    rows = len(y)
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(expected("split", "an integer seed of at least 0", describe(seed)))
    if not 0 < fraction < 1:
        raise DataError(expected("split", "a fraction between 0 and 1", describe(fraction)))
    if rows < 2:
        raise DataError(expected("split", "at least 2 rows", rows))
    wanted = min(max(round(fraction * rows), 1), rows - 1)
    # Raw bits are the part of NumPy's generators that no version changes.
    order = np.argsort(np.random.Philox(seed).random_raw(rows), kind="stable")
    held = _of_each_class(y, order, wanted) if stratify else order[:wanted]
    keep = np.ones(rows, bool)
    keep[held] = False
    return np.flatnonzero(keep), np.flatnonzero(~keep)


def _of_each_class(y, order, wanted):
    _, classes, counts = np.unique(y[order], return_inverse=True, return_counts=True)
    quotas = _quotas(counts, wanted)
    if quotas.sum() == 0:
        hint = "if the target is a quantity, choose task='regression' (--task regression)"
        raise DataError(expected("split", "a class with at least 2 rows", f"{len(counts)} classes in {len(y)} rows", hint))
    by_class = np.argsort(classes.reshape(-1), kind="stable")
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[by_class[rank < np.repeat(quotas, counts)]]


def _quotas(counts, wanted):
    """How many of each class are held out: in proportion, whole, never the whole class, `wanted` in all if possible."""
    exact = counts * (wanted / counts.sum())
    quotas = np.floor(exact).astype(np.int64)  # below the count, as wanted is below the number of rows
    by_remainder = np.argsort(quotas - exact, kind="stable")
    able = by_remainder[quotas[by_remainder] < counts[by_remainder] - 1]
    quotas[able[: wanted - quotas.sum()]] += 1
    return quotas
