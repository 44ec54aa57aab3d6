# SPDX-License-Identifier: Apache-2.0
"""What a target asks for, and class labels as integers."""

from typing import Any

import numpy as np

from ..errors import DataError, describe, expected, listed, suggest
from .checks import as_array

CLASSIFICATION, REGRESSION = "classification", "regression"
MAX_INTEGER_CLASSES = 50


def infer_task(y: np.ndarray) -> str:
    """The task of a target: text, booleans or at most 50 distinct integers are classes, anything else is regression.

    Parameters
    ----------
    y : ndarray of shape (rows,) or (rows, outputs)
        Floats count as integers when all of them are whole.

    Examples
    --------
    >>> infer_task(np.array(["no", "yes"])), infer_task(np.array([1.0, 2.0])), infer_task(np.array([1.5, 2.0]))
    ('classification', 'classification', 'regression')
    """
    if y.ndim > 1:
        return REGRESSION
    if y.dtype.kind in "Ub":
        return CLASSIFICATION
    return CLASSIFICATION if _whole(y) and len(np.unique(y)) <= MAX_INTEGER_CLASSES else REGRESSION


def as_target(who: str, y: Any, rows: int) -> np.ndarray:
    """`y` as text, booleans or numbers of shape (rows,) or (rows, outputs); a single column becomes (rows,)."""
    y = as_array(who, "y", y)
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(expected(who, "labels in UTF-8", describe(error.object))) from error
    if y.dtype.kind not in "Ubiuf" or (y.itemsize > 8 and y.dtype.kind == "f"):
        raise DataError(expected(who, "a target y of numbers, booleans or text", describe(y)))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(expected(who, "y of shape (rows,) or (rows, outputs)", y.shape))
    if len(y) != rows:
        raise DataError(expected(who, f"one target for each of the {rows} rows of x", f"{len(y)} targets"))
    return y


def class_labels(who: str, y: np.ndarray) -> list[str] | list[int] | list[bool]:
    """The distinct labels of a target, sorted: texts, booleans or integers of Python.

    Examples
    --------
    >>> class_labels("fit", np.array([10.0, 9.0, 10.0]))
    [9, 10]
    """
    if y.ndim > 1 or (y.dtype.kind == "f" and not _whole(y)):
        raise DataError(expected(who, "classes: text, booleans or integers of shape (rows,)", describe(y)))
    labels = [int(label) if y.dtype.kind == "f" else label.item() for label in np.unique(y)]
    if len(labels) < 2:
        raise DataError(expected(who, "at least 2 classes", f"only {labels[0]!r}"))
    if y.dtype.kind == "U" and len(labels) == len(y):
        raise DataError(expected(who, "classes with more than one row", f"{len(y)} different texts in {len(y)} rows"))
    return labels


def encode_labels(who: str, y: np.ndarray, classes: list) -> np.ndarray:
    """The place of each label of `y` in `classes`, int32 (rows,).

    Examples
    --------
    >>> encode_labels("fit", np.array(["no", "yes", "no"]), ["no", "yes"])
    array([0, 1, 0], dtype=int32)
    """
    if y.ndim > 1 or (y.dtype.kind == "U") != isinstance(classes[0], str):
        raise DataError(expected(who, f"the labels {listed(classes)} of shape (rows,)", describe(y)))
    labels, places = np.unique(y, return_inverse=True)
    known = {label: code for code, label in enumerate(classes)}
    codes = np.array([known.get(label.item(), -1) for label in labels], np.int32)
    if codes.min() < 0:
        label = labels[codes < 0][0].item()
        row = int(np.flatnonzero(y == label)[0]) + 1 if label == label else int(np.flatnonzero(y != y)[0]) + 1
        raise DataError(
            expected(who, f"one of the labels {listed(classes)}", f"{describe(label)} in row {row}") + suggest(label, classes)
        )
    return codes[places.reshape(-1)]


def _whole(y):
    return y.dtype.kind in "biu" or bool(np.isfinite(y).all() and (y == np.round(y)).all())
