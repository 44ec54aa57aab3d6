# SPDX-License-Identifier: Apache-2.0
"""Scaling of inputs and targets: z = x * scale + shift per column, fitted on the training rows in one pass.

Moments are accumulated in float64 over chunks of rows that fit the cache, whatever the dtype, so uint8 and
memory-mapped arrays stay as they are; the network applies scale and shift while it reads its batches.
"""

from typing import Any, Self

import numpy as np

from ..errors import DataError, describe, expected, suggest
from .checks import row_chunks

_CHUNK = 1 << 16  # elements, 512 KiB in float64: a chunk and its deviations stay in the second-level cache
# A spread below float32's resolution of the mean is rounding, not information.
_RESOLUTION = float(np.finfo(np.float32).eps)


class Unscaled:
    """No preprocessing: scale 1, shift 0; also the base of `Center` and `Standardize`.

    Parameters
    ----------
    per : {"feature", "channel"}
        Whether each column has its own numbers, or all columns of an image channel share theirs.

    Attributes
    ----------
    scale, shift : ndarray, float64 (features,)
        After `fit`: z = x * scale + shift.
    mean : ndarray, float64 (features,)
        Of the training rows; non-finite values, where they are allowed, do not take part.
    """

    kind = "none"

    def __init__(self, per: str = "feature") -> None:
        if per not in ("feature", "channel"):
            raise DataError(expected(type(self).__name__, "per='feature' or per='channel'", describe(per)))
        self.per = per
        self.mean = self.scale = self.shift = None

    def fit(self, x: np.ndarray, channels: int = 1) -> Self:
        """Learn the numbers of the columns.

        Parameters
        ----------
        x : ndarray of shape (rows, features)
            Any integer or floating dtype; columns of images in the order (height, width, channels).
        channels : int
            With per="channel".

        Returns
        -------
        self
        """
        who = type(self).__name__
        if not isinstance(x, np.ndarray) or x.ndim != 2 or x.size == 0:
            raise DataError(expected(who, "an array of shape (rows, features), at least 1x1", describe(x)))
        if self.per == "channel" and (channels < 1 or x.shape[1] % channels):
            raise DataError(expected(who, f"columns of {channels} channels", f"{x.shape[1]} columns"))
        with np.errstate(over="ignore", invalid="ignore"):
            count, mean, squares = _moments(x)
        if self.per == "channel":
            count, mean, squares = _pool(count, mean, squares, channels)
        if not np.isfinite(squares).all():
            raise DataError(expected(who, "values whose squares are finite", f"{np.abs(mean).max():.3g} as a mean"))
        std = np.sqrt(squares / np.maximum(count, 1))
        constant = std <= _RESOLUTION * np.abs(mean)
        self._set(mean, self._scale(np.where(constant, 1.0, std)))
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """`x` scaled, float32 (rows, features)."""
        if self.scale is None or x.ndim != 2 or x.shape[1] != len(self.scale):
            fitted = "after fit" if self.scale is None else f"an array with {len(self.scale)} columns"
            raise DataError(expected(type(self).__name__, fitted, describe(x)))
        z = np.empty(x.shape, np.float32)
        for rows in row_chunks(x):
            z[rows] = x[rows] * self.scale + self.shift
        return z

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        if self.scale is None:
            raise DataError(expected(type(self).__name__, "a call of fit before to_dict", "none"))
        return {"kind": self.kind, "per": self.per, "mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, state: Any) -> Self:
        """The fitted object of this class that `to_dict` described; DataError when the state is not of that form."""
        made = from_dict(state)
        if not isinstance(made, cls):
            raise DataError(expected(cls.__name__, f"the state of a {cls.__name__}", f"that of a {type(made).__name__}"))
        return made

    def _scale(self, std):
        return np.ones_like(std)

    def _set(self, mean, scale):
        self.mean, self.scale, self.shift = mean, scale, np.zeros_like(mean)


class Center(Unscaled):
    """Subtract the training mean: z = x - mean.

    Examples
    --------
    >>> Center().fit(np.array([[0, 5], [4, 5]], np.uint8)).shift.tolist()
    [-2.0, -5.0]
    """

    kind = "center"

    def _set(self, mean, scale):
        self.mean, self.scale, self.shift = mean, scale, -mean * scale


class Standardize(Center):
    """Subtract the training mean and divide by the training standard deviation: z = (x - mean) / std.

    A constant column is only centred; so is one whose spread is below float32's resolution of its mean.

    Examples
    --------
    >>> scaler = Standardize().fit(np.array([[0, 5], [4, 5]], np.uint8))
    >>> scaler.scale.tolist(), scaler.shift.tolist()
    ([0.5, 1.0], [-1.0, -5.0])
    """

    kind = "standardize"

    def _scale(self, std):
        return 1.0 / std


class TargetScaler(Standardize):
    """Standardises the targets of a regression, column by column.

    Examples
    --------
    >>> scaler = TargetScaler().fit(np.array([1.0, 3.0], np.float32))
    >>> scaler.transform(np.array([1.0, 3.0])).tolist(), scaler.inverse(np.array([-1.0, 0.0])).tolist()
    ([-1.0, 1.0], [1.0, 2.0])
    """

    kind = "target"

    def fit(self, y: np.ndarray) -> Self:
        """Learn mean and standard deviation of y (rows,) or (rows, outputs); returns self."""
        return super().fit(_columns(y))

    def transform(self, y: np.ndarray) -> np.ndarray:
        """(y - mean) / std, float32, in the shape of y."""
        return super().transform(_columns(y)).reshape(y.shape)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """z * std + mean, float32, in the shape of z."""
        return ((_columns(z) - self.shift) / self.scale).astype(np.float32).reshape(z.shape)


_KINDS = {each.kind: each for each in (Unscaled, Center, Standardize)}


def by_name(name: str, per: str = "feature") -> Unscaled:
    """The unfitted preprocessing called "none", "center" or "standardize".

    Examples
    --------
    >>> by_name("center").kind
    'center'
    """
    if name not in _KINDS:
        raise DataError(expected("preprocess", "none, center or standardize", describe(name)) + suggest(name, _KINDS))
    return _KINDS[name](per)


def from_dict(state: Any) -> Unscaled:
    """The preprocessing or TargetScaler that `to_dict` described; DataError when the state is not of that form."""
    kinds = {**_KINDS, TargetScaler.kind: TargetScaler}
    kind = state.get("kind") if isinstance(state, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise DataError(expected("preprocess", "the state of a fitted preprocessing", describe(state)))
    mean, scale = _finite(state.get("mean")), _finite(state.get("scale"))
    if mean is None or scale is None or len(mean) != len(scale) or not (scale > 0).all():
        raise DataError(expected("preprocess", "as many finite means as positive scales", describe(state)))
    made = kinds[kind](state.get("per"))
    made._set(mean, scale)
    return made


def _finite(numbers):
    if not isinstance(numbers, list) or not numbers or not all(type(each) in (int, float) for each in numbers):
        return None
    array = np.array(numbers, np.float64)
    return array if np.isfinite(array).all() else None


def _columns(y):
    return y.reshape(len(y), -1)


def _moments(x):
    """Count, mean and sum of squared deviations of each column, float64 (columns,).

    Deviations from the first row are summed, so a constant column gives exactly zero; chunks are merged by Chan's
    formula.
    """
    start = np.nan_to_num(x[0].astype(np.float64), posinf=0.0, neginf=0.0)
    count, mean, squares = np.zeros((3, x.shape[1]))
    for rows in row_chunks(x, _CHUNK):
        chunk = x[rows] - start
        added = np.full(x.shape[1], float(len(chunk)))
        if x.dtype.kind == "f":
            finite = np.isfinite(chunk)
            if not finite.all():
                added = finite.sum(axis=0, dtype=np.float64)
                # Their column's mean in their place adds nothing to the squares.
                chunk = np.where(finite, chunk, chunk.sum(axis=0, where=finite) / np.maximum(added, 1))
        chunk_mean = chunk.mean(axis=0)
        chunk -= chunk_mean
        total = np.maximum(count + added, 1)
        difference = chunk_mean - mean
        squares += np.einsum("ij,ij->j", chunk, chunk) + difference**2 * (count * added / total)
        mean += difference * (added / total)
        count += added
    return count, mean + start, squares


def _pool(count, mean, squares, channels):
    """The moments of each channel over its columns, repeated for every column."""
    count, mean, squares = (each.reshape(-1, channels) for each in (count, mean, squares))
    total = np.maximum(count.sum(axis=0), 1)
    pooled_mean = (count * mean).sum(axis=0) / total
    pooled_squares = squares.sum(axis=0) + (count * (mean - pooled_mean) ** 2).sum(axis=0)
    return (np.tile(each, len(count)) for each in (total, pooled_mean, pooled_squares))
