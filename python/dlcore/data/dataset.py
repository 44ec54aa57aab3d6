# SPDX-License-Identifier: Apache-2.0
"""A data set: rows to learn from, perhaps a test part, and what the target means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, describe, expected, suggest
from .checks import as_features, check_finite
from .table import NUMBER, Table
from .task import CLASSIFICATION, REGRESSION, as_target, class_labels, encode_labels, infer_task


@dataclass(frozen=True)
class Dataset:
    """Rows, targets and their meaning.

    Attributes
    ----------
    name : str
    x : ndarray of shape (rows, features) or Table
        In the dtype that the source has; a Table (of a CSV file) is encoded after it has been split.
    y : ndarray
        Classification: int32 (rows,), places in `classes`. Regression: float32 (rows,) or (rows, outputs).
    x_test, y_test : like x and y, or None
        The source's own test part.
    classes : list or None
        Labels in the order of their integers; None for regression.
    features : list of str or None
        The names of the columns of x.
    task : "classification" or "regression"
    image : tuple of int or None
        (height, width, channels), where a row is an image.
    target : str or None
        The name of the target column of a CSV file.

    Examples
    --------
    >>> data = Dataset.from_arrays("pets", np.eye(4), ["cat", "dog", "dog", "cat"])
    >>> data.task, data.classes, data.y.tolist()
    ('classification', ['cat', 'dog'], [0, 1, 1, 0])
    """

    name: str
    x: np.ndarray | Table
    y: np.ndarray
    x_test: np.ndarray | Table | None = None
    y_test: np.ndarray | None = None
    classes: list | None = None
    features: list | None = None
    task: str = CLASSIFICATION
    image: tuple | None = None
    target: str | None = None

    @classmethod
    def from_arrays(
        cls,
        name: str,
        x: Any,
        y: Any,
        x_test: Any = None,
        y_test: Any = None,
        *,
        task: str | None = None,
        target: str | None = None,
        allow_nonfinite: bool = False,
    ) -> Dataset:
        """Check arrays (or Tables), find the task unless it is given, and encode the target.

        The classes are those of `y`; a label of `y_test` that is not among them is an error.
        """
        if (x_test is None) != (y_test is None):
            raise DataError(expected(name, "x_test and y_test together", "one of them"))
        x, image = checked_features(name, "x", x, allow_nonfinite)
        y = as_target(name, y, len(x))
        task = check_task(name, task) or infer_task(y)
        classes = class_labels(name, y) if task == CLASSIFICATION else None
        if x_test is not None:
            x_test, _ = checked_features(f"{name}: test part", "x_test", x_test, allow_nonfinite)
            _check_width(name, x, x_test)
            y_test = as_target(f"{name}: test part", y_test, len(x_test))
            y_test = encode_target(f"{name}: test part", y_test, classes, allow_nonfinite)
        return cls(
            name,
            x,
            encode_target(name, y, classes, allow_nonfinite),
            x_test,
            y_test,
            classes,
            list(x.columns) if isinstance(x, Table) else None,
            task,
            image,
            target,
        )


def check_task(who: str, task: str | None) -> str | None:
    """`task` if it is None or the name of a task."""
    if task is not None and task not in (CLASSIFICATION, REGRESSION):
        raise DataError(
            expected(who, f"task {CLASSIFICATION!r} or {REGRESSION!r}", describe(task))
            + suggest(task, [CLASSIFICATION, REGRESSION])
        )
    return task


def checked_features(who: str, name: str, x: Any, allow_nonfinite: bool) -> tuple[np.ndarray | Table, tuple | None]:
    """x as a matrix or Table, and the shape of an image or None."""
    if isinstance(x, Table):
        if not allow_nonfinite:
            for column, values in x.columns.items():
                if x.kinds[column] == NUMBER:
                    # NaN stands for missing here; the encoder replaces it.
                    check_finite(who, f"column {column!r}", np.where(np.isnan(values), 0, values))
        return x, None
    x, image = as_features(who, name, x)
    if not allow_nonfinite:
        check_finite(who, name, x)
    return x, image


def encode_target(who: str, y: np.ndarray, classes: list | None, allow_nonfinite: bool) -> np.ndarray:
    """int32 places in classes, or, where classes is None, float32 values."""
    if classes is not None:
        return encode_labels(who, y, classes)
    if y.dtype.kind == "U":
        example = describe(y.flat[0].item())
        raise DataError(expected(who, "numbers as the target of a regression", f"text such as {example}"))
    if not allow_nonfinite:
        check_finite(who, "y", y)
    with np.errstate(over="ignore"):
        return y.astype(np.float32)


def _check_width(name, x, x_test):
    if isinstance(x, Table) != isinstance(x_test, Table):
        raise DataError(expected(name, "training and test part of one kind", "a table and an array"))
    if not isinstance(x, Table) and x.shape[1] != x_test.shape[1]:
        raise DataError(expected(name, f"{x.shape[1]} features in the test part", x_test.shape[1]))
