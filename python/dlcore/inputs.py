# SPDX-License-Identifier: Apache-2.0
"""The door: arrays are checked once, here, before any memory is touched; the gather converts while it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import _core
from . import backend as backends
from .device_array import DeviceArray, on_device
from .errors import DataError, describe, expected, listed

KINDS = "fiub"
SCAN_ELEMENTS = 1 << 16  # they stay in the cache from one look to the next


def viewed(who: str, array, backend=None) -> np.ndarray | DeviceArray:
    """An array's memory as NumPy sees it, through DLPack where it is offered, or on the backend's device; never copied unless
    it must be."""
    found = on_device(who, array, backend or backends.get())
    if found is not None:
        return found
    given = array
    if not isinstance(array, np.ndarray):
        try:
            try:
                array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
            except (RuntimeError, BufferError, TypeError, ValueError):
                array = np.asarray(array)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(expected(who, "an array of numbers", describe(array), hint=str(error))) from None
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(expected(who, "an array without a mask", "a masked array", hint="fill or drop the masked values"))
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
        hint = "numpy.asarray(..., 'float32') converts what are numbers" if array.dtype.kind == "O" else ""
        raise TypeError(expected(who, "numbers of at most 64 bits", describe(array) + _columns(given), hint))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(s % array.itemsize or s < 0 for s in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    return np.asarray(array)


def _columns(frame) -> str:
    """Columns of a data frame that are no numbers, or all of them where only their mixture is none."""
    try:
        dtypes = list(zip(frame.columns, frame.dtypes, strict=True))
    except (AttributeError, TypeError, ValueError):
        return ""
    wrong = [(name, dtype) for name, dtype in dtypes if getattr(dtype, "kind", "O") not in KINDS]
    return " of columns " + listed(f"{name}: {dtype}" for name, dtype in wrong or dtypes)


def features(who: str, x, columns: int | None, allow_nonfinite: bool | None = None, backend=None) -> np.ndarray | DeviceArray:
    """x as (rows, columns) numbers; a vector counts as one column when the net takes one, else as one row.

    ``allow_nonfinite`` is None where the caller's user has no such option.
    """
    x = viewed(f"{who}: x", x, backend)
    if x.ndim == 1:
        x = x.reshape(-1, 1) if columns == 1 else x.reshape(1, -1)
    if x.ndim > 2:
        x = x.reshape(len(x), -1)
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise DataError(expected(f"{who}: x", "at least one row and one column", f"shape {x.shape}"))
    if columns is not None and x.shape[1] != columns:
        raise ValueError(expected(f"{who}: x", f"{columns} columns", f"shape {x.shape}"))
    if not allow_nonfinite:
        require_finite(f"{who}: x", x, allow_nonfinite, backend)
    return x


def is_finite(array: np.ndarray, real: str) -> bool:
    """Is every number of a floating array finite as a ``real``? In one pass over memory, without temporaries."""
    if array.dtype == real and array.flags.c_contiguous:
        return _core.all_finite(array)
    largest = np.finfo(real).max
    return all(-largest <= part.min() and part.max() <= largest for _, part in _parts(array))  # NaN compares false


def _parts(array: np.ndarray):
    """(first row, some rows) of an array."""
    rows = max(1, SCAN_ELEMENTS * len(array) // array.size)
    return ((first, array[first : first + rows]) for first in range(0, len(array), rows))


def require_finite(who: str, array: np.ndarray | DeviceArray, allow_nonfinite: bool | None = None, backend=None) -> None:
    """Refuse what is not finite in the backend's reals, naming how many numbers and where the first is."""
    if array.dtype.kind != "f":
        return
    if isinstance(array, DeviceArray):
        if array.is_finite():
            return
        array = np.asarray(array)
    real = (backend or backends.get()).real
    if is_finite(array, real):
        return
    count, where = 0, ()
    for first, part in _parts(array):
        bad = ~(np.abs(part) <= np.finfo(real).max)
        if not count and bad.any():
            row, *column = map(int, np.argwhere(bad)[0])
            where = (first + row, *column)
        count += np.count_nonzero(bad)
    kind = f"beyond {real}" if np.isfinite(array[where]) else "NaN or Inf"
    hint = "clean the data" + ("" if allow_nonfinite is None else " or pass allow_nonfinite=True")
    raise DataError(expected(who, "finite numbers", f"{count} {kind}, the first at {where}", hint))


def targets(
    who: str, loss, y, rows: int, columns: int, allow_nonfinite: bool | None = None, backend=None
) -> np.ndarray | DeviceArray:
    """y as the loss wants it: class codes (rows,), or reals (rows, columns)."""
    y = viewed(f"{who}: y", y, backend)
    if y.ndim == 0 or len(y) != rows:
        raise ValueError(expected(f"{who}: y", f"{rows} rows as x has", f"shape {y.shape}"))
    if y.ndim > 2:
        raise ValueError(expected(f"{who}: y", "one or two dimensions", f"shape {y.shape}"))
    if loss.target == "index" and (y.ndim == 1 or (y.shape[1] == 1 and columns > 1)):
        return classes(who, y.reshape(rows), columns)
    y = y.reshape(-1, 1) if y.ndim == 1 else y
    if y.shape[1] != columns:
        raise ValueError(expected(f"{who}: y", f"{columns} columns as the net has outputs", f"shape {y.shape}"))
    if not allow_nonfinite:
        require_finite(f"{who}: y", y, allow_nonfinite, backend)
    if loss.target == "index" or loss.name == "binary_cross_entropy":
        low, high = (float(f(y)) for f in (np.min, np.max))
        if low < 0 or high > 1:
            hint = "pass loss=MeanSquaredError() for a regression"
            got = f"values from {low:g} to {high:g}"
            raise DataError(expected(f"{who}: y", f"probabilities in [0, 1] for {type(loss).__name__}", got, hint))
    return y


def target_limit(loss, y, columns: int) -> int:
    """Checked targets lie in [0, limit - 1]: class codes, or probabilities; 0: any."""
    if loss.target == "index" and y.ndim == 1:
        return columns
    return 2 if loss.target == "index" or loss.name == "binary_cross_entropy" else 0


def classes(who: str, y: np.ndarray | DeviceArray, columns: int) -> np.ndarray | DeviceArray:
    """Integer labels in [0, columns)."""
    if y.dtype.kind == "f":
        hint = "encode the labels as integers 0 .. classes - 1"
        raise TypeError(expected(f"{who}: y", "integer class labels", describe(y), hint=hint))
    low, high = (int(f(y)) for f in (np.min, np.max))
    if low < 0 or high >= columns:
        hint = f"the net has {columns} outputs" if columns > 1 else "one output takes BinaryCrossEntropy()"
        raise DataError(expected(f"{who}: y", f"labels in [0, {columns})", f"labels from {low} to {high}", hint=hint))
    return y


def weights(who: str, weight, rows: int, backend=None) -> np.ndarray | DeviceArray | None:
    """Row weights: finite, >= 0, not all zero in the backend's reals."""
    if weight is None:
        return None
    w = viewed(f"{who}: sample_weight", weight, backend)
    if w.shape not in ((rows,), (rows, 1)):
        raise ValueError(expected(f"{who}: sample_weight", f"shape ({rows},)", f"shape {w.shape}"))
    w = w.reshape(rows, 1)
    require_finite(f"{who}: sample_weight", w, backend=backend)
    seen = np.asarray(w, (backend or backends.get()).real)  # 1e-50 is 0 in float32
    if seen.min() < 0 or not seen.any():
        got = f"minimum {seen.min():g}, sum {seen.sum():g}"
        raise DataError(expected(f"{who}: sample_weight", "weights >= 0, not all 0", got))
    return w


@dataclass
class Rows:
    """Checked arrays of one part of the data; ``index`` where it is some of their rows."""

    x: np.ndarray | DeviceArray
    y: np.ndarray | DeviceArray
    weight: np.ndarray | DeviceArray | None = None
    index: np.ndarray | None = None

    def __post_init__(self):
        if not isinstance(self.x, DeviceArray):  # all of it on the device, or none
            self.y, self.weight = np.asarray(self.y), None if self.weight is None else np.asarray(self.weight)

    def __len__(self) -> int:
        return len(self.x) if self.index is None else len(self.index)

    def pick(self, index: np.ndarray) -> Rows:
        """Some rows: a copy on the host, the same memory on a device."""
        if isinstance(self.x, DeviceArray):
            return Rows(self.x, self.y, self.weight, index)
        return Rows(self.x[index], self.y[index], None if self.weight is None else self.weight[index])

    def arenas(self) -> dict:
        return {"x": self.x, "y": self.y, "weight": self.weight}
