# SPDX-License-Identifier: Apache-2.0
"""The door: arrays are checked once, here, before any memory is touched; the gather converts while it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import _core
from ..errors import DataError, describe, expected
from ..plan import Batch, Source

KINDS = "fiub"
SCAN_ROWS = 1 << 16


def viewed(who: str, array) -> np.ndarray:
    """An array's memory as NumPy sees it, through DLPack where it is offered; never copied unless it must be."""
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__dlpack__"):
            try:
                array = np.from_dlpack(array)
            except (RuntimeError, BufferError, TypeError, ValueError):
                array = np.asarray(array)
        else:
            try:
                array = np.asarray(array)
            except ValueError as error:
                raise DataError(expected(who, "an array of numbers", describe(array), hint=str(error))) from None
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(expected(who, "an array without a mask", "a masked array", hint="fill or drop the masked values"))
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
        raise TypeError(expected(who, "numbers of at most 64 bits", describe(array)))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(s % array.itemsize or s < 0 for s in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    return np.asarray(array)


def features(who: str, x, columns: int | None, allow_nonfinite: bool = False) -> np.ndarray:
    """x as (rows, columns) numbers; a vector counts as one column when the net takes one, else as one row."""
    x = viewed(f"{who}: x", x)
    if x.ndim == 1:
        x = x[:, None] if columns == 1 else x[None, :]
    if x.ndim > 2:
        x = x.reshape(len(x), -1)
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise DataError(expected(f"{who}: x", "at least one row and one column", f"shape {x.shape}"))
    if columns is not None and x.shape[1] != columns:
        raise ValueError(expected(f"{who}: x", f"{columns} columns", f"shape {x.shape}"))
    if not allow_nonfinite:
        require_finite(f"{who}: x", x)
    return x


def is_finite(array: np.ndarray) -> bool:
    """Is every number of a floating array finite? In one pass without temporaries where the layout allows."""
    if array.dtype.char in "fd" and array.flags.c_contiguous:
        return _core.all_finite(array)
    return all(np.isfinite(array[i : i + SCAN_ROWS]).all() for i in range(0, len(array), SCAN_ROWS))


def require_finite(who: str, array: np.ndarray) -> None:
    """Refuse NaN and infinities, naming how many and where the first is."""
    if array.dtype.kind != "f" or is_finite(array):
        return
    for start in range(0, len(array), SCAN_ROWS):
        part = array[start : start + SCAN_ROWS]
        if not np.isfinite(part).all():
            bad = np.argwhere(~np.isfinite(part))
            where = tuple(int(i) for i in bad[0] + np.array([start] + [0] * (array.ndim - 1)))
            hint = "clean the data or pass allow_nonfinite=True"
            raise DataError(expected(who, "finite numbers", f"{len(bad)} NaN or Inf, the first at {where}", hint=hint))


def targets(who: str, loss, y, rows: int, columns: int, allow_nonfinite: bool = False) -> np.ndarray:
    """y as the loss wants it: class codes (rows,), or reals (rows, columns)."""
    y = viewed(f"{who}: y", y)
    if y.ndim == 0 or len(y) != rows:
        raise ValueError(expected(f"{who}: y", f"{rows} rows as x has", f"shape {y.shape}"))
    if y.ndim > 2:
        raise ValueError(expected(f"{who}: y", "one or two dimensions", f"shape {y.shape}"))
    if loss.target == "index" and (y.ndim == 1 or (y.shape[1] == 1 and columns > 1)):
        return classes(who, y.reshape(rows), columns)
    y = y[:, None] if y.ndim == 1 else y
    if y.shape[1] != columns:
        raise ValueError(expected(f"{who}: y", f"{columns} columns as the net has outputs", f"shape {y.shape}"))
    if not allow_nonfinite:
        require_finite(f"{who}: y", y)
    if loss.target == "index" or loss.name == "binary_cross_entropy":
        low, high = float(y.min()), float(y.max())
        if low < 0 or high > 1:
            raise DataError(expected(f"{who}: y", "probabilities in [0, 1]", f"values from {low:g} to {high:g}"))
    return y


def classes(who: str, y: np.ndarray, columns: int) -> np.ndarray:
    """Integer labels in [0, columns)."""
    if y.dtype.kind == "f":
        hint = "encode the labels as integers 0 .. classes - 1"
        raise TypeError(expected(f"{who}: y", "integer class labels", describe(y), hint=hint))
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= columns:
        hint = f"the net has {columns} outputs"
        raise DataError(expected(f"{who}: y", f"labels in [0, {columns})", f"labels from {low} to {high}", hint=hint))
    return y


def weights(who: str, weight, rows: int) -> np.ndarray | None:
    """Row weights: finite, >= 0, not all zero."""
    if weight is None:
        return None
    w = viewed(f"{who}: sample_weight", weight)
    if w.shape not in ((rows,), (rows, 1)):
        raise ValueError(expected(f"{who}: sample_weight", f"shape ({rows},)", f"shape {w.shape}"))
    require_finite(f"{who}: sample_weight", w)
    if (w.dtype.kind == "f" and float(w.min()) < 0) or (w.dtype.kind == "i" and int(w.min()) < 0) or not w.any():
        raise DataError(expected(f"{who}: sample_weight", "weights >= 0, not all 0", f"minimum {w.min()}, sum {w.sum()}"))
    return w.reshape(rows, 1)


@dataclass
class Rows:
    """Checked arrays of one part of the data."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: int, net, order_rows: int = 0) -> Batch:
        weight = None if self.weight is None else Source.of(self.weight)
        ordered = order_rows > 0
        return Batch(rows, Source.of(self.x), Source.of(self.y), weight, ordered, order_rows, **net.input_affine())

    def arenas(self) -> dict:
        return {"x": self.x, "y": self.y, "weight": self.weight}
