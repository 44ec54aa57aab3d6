# SPDX-License-Identifier: Apache-2.0
"""What every array of data must satisfy, whatever file it came from."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DataError, describe, expected

_CHUNK = 1 << 20  # elements
_LARGEST = float(np.finfo(np.float32).max)


def row_chunks(array: np.ndarray, elements: int = _CHUNK) -> Iterator[slice]:
    """Slices of whole rows, about this many elements each, that cover the array."""
    step = max(1, elements // max(1, array[:1].size))
    return (slice(start, start + step) for start in range(0, len(array), step))


def check_finite(who: str, name: str, array: np.ndarray, columns: list[str] | None = None) -> None:
    """Refuse NaN, infinities and what becomes infinite in float32, with their count and the place of the first.

    Parameters
    ----------
    who, name : str
        The function and the array named in the message.
    array : ndarray of shape (rows,) or (rows, columns)
    columns : list of str, optional

    Examples
    --------
    >>> check_finite("fit", "x", np.array([[0.0, 1.0], [2.0, np.nan]]), ["age", "height"])
    Traceback (most recent call last):
    ...
    dlcore.errors.DataError: fit: expected finite values (in float32) in x, got nan in row 2, column 'height' \
(1 in all); clean the data; in Python allow_nonfinite=True lets them pass
    """
    if array.dtype.kind != "f":
        return
    count, first = 0, None
    for rows in row_chunks(array):
        # In float16 and float32 the limit itself would overflow; NaN compares false.
        finite = np.abs(array[rows]) <= _LARGEST if array.itemsize > 4 else np.isfinite(array[rows])
        if not finite.all():
            count += finite.size - int(np.count_nonzero(finite))
            if first is None:
                first = np.argwhere(~finite)[0]
                first[0] += rows.start
    if count:
        place = f"row {first[0] + 1}"
        if array.ndim > 1:
            place += f", column {columns[first[1]]!r}" if columns else f", column {first[1] + 1}"
        raise DataError(
            expected(
                who,
                f"finite values (in float32) in {name}",
                f"{array[tuple(first)]} in {place} ({count} in all)",
                hint="clean the data; in Python allow_nonfinite=True lets them pass",
            )
        )


def as_array(who: str, name: str, value: Any) -> np.ndarray:
    """`value` as an array, or an error of one line."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(expected(who, f"{name} as an array", f"{describe(value)}: {error}")) from error


def as_features(who: str, name: str, array: Any) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """`array` as native numbers of shape (rows, features), and (height, width, channels) or None.

    Images (rows, height, width) or (rows, height, width, channels) are flattened; nothing else is copied, except
    booleans, which become uint8, and arrays in the other byte order.
    """
    array = as_array(who, name, array)
    if array.dtype.kind not in "biuf" or array.itemsize > 8:
        raise DataError(expected(who, f"{name} as booleans, integers or floats of at most 64 bits", describe(array)))
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise DataError(
            expected(
                who,
                f"{name} of shape (rows, features), at least 1x1",
                array.shape,
                hint="give one feature as a column: x.reshape(-1, 1)" if array.ndim == 1 else "",
            )
        )
    image = None if array.ndim == 2 else (*array.shape[1:], 1)[:3]
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.reshape(len(array), -1), image
