# SPDX-License-Identifier: Apache-2.0
"""From the name of a data set or a file to a Dataset."""

import os
from dataclasses import replace

import numpy as np

from ..errors import DataError, FileFormatError, describe, describe_path, expected, listed, suggest
from ..io import load_arrays
from .bundled import digits
from .dataset import Dataset, check_task
from .idx import fashion_mnist, mnist
from .table import TextColumn, read_csv

_IN_FOLDERS = ("mnist", "fashion-mnist")
NAMED = ("digits", *_IN_FOLDERS)
_ENDINGS = {".csv": "csv", ".csv.gz": "csv", ".npz": "npz"}
_X_KEYS, _Y_KEYS = ("x", "X", "x_train", "X_train"), ("y", "Y", "y_train", "Y_train")
_X_TEST_KEYS, _Y_TEST_KEYS = ("x_test", "X_test"), ("y_test", "Y_test")


def source_kind(
    source: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
) -> str:
    """ "digits", "mnist", "fashion-mnist", "csv" or "npz": told by the name alone, no file is opened.

    Raises
    ------
    ValueError
        If it is none of them, or does not go with the other options of `load`. This is a wrong call and no bad data,
        so it is no DataError.

    Examples
    --------
    >>> source_kind("adult.csv.gz"), source_kind("mnist", data_dir="mnist")
    ('csv', 'mnist')
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else ""
    by_ending = (kind for ending, kind in _ENDINGS.items() if name.endswith(ending))
    kind = name if name in NAMED else next(by_ending, None)
    if kind is None:
        raise ValueError(
            expected("load", f"{', '.join(NAMED)} or a .csv, .csv.gz or .npz file", describe(source)) + suggest(source, NAMED)
        )
    if test is not None and (kind in NAMED or source_kind(test) != kind):
        which = "no" if kind in NAMED else f"a .{kind}"
        raise ValueError(expected("load", f"{which} test file with {name}", describe(test)))
    if target is not None and kind != "csv":
        raise ValueError(expected("load", f"no target column with {name}", describe(target)))
    if (data_dir is None) == (kind in _IN_FOLDERS):
        which = "a" if kind in _IN_FOLDERS else "no"
        raise ValueError(expected("load", f"{which} data_dir with {name}", describe(data_dir)))
    return kind


def load(
    source: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    task: str | None = None,
    allow_nonfinite: bool = False,
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source : str or os.PathLike
        "digits" (comes with the package), "mnist" or "fashion-mnist" (IDX files in `data_dir`), or the path of a
        .csv, .csv.gz or .npz file. An .npz holds x and y (or X and Y, x_train and y_train), and may hold x_test and
        y_test.
    test : str or os.PathLike, optional
        A file of the same kind whose rows are the test part.
    data_dir : str or os.PathLike, optional
        The folder of the IDX files.
    target : str, optional
        The target column of a CSV file; the last one by default.
    task : {"classification", "regression"}, optional
        Follows from the target by default, see `infer_task`.
    allow_nonfinite : bool
        Accept NaN and infinities. Missing values in a CSV file are always accepted in features, never in the target.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    ValueError
        If the options do not go together, see `source_kind`.
    DataError, OSError
        If the data cannot be used, or a file cannot be read.

    Examples
    --------
    >>> load("digits").x.shape
    (1797, 64)
    """
    kind = source_kind(source, test=test, data_dir=data_dir, target=target)
    check_task("load", task)
    if kind in NAMED:
        return _load_named(kind, data_dir, task)
    name = os.path.basename(os.fspath(source))
    if kind == "csv":
        return _load_csv(name, source, test, target, task, allow_nonfinite)
    x, y, x_test, y_test = read_npz(source)
    if test is not None:
        if x_test is not None:
            raise DataError(expected("load", f"no test file, as {describe_path(source)} holds x_test", describe_path(test)))
        x_test, y_test, _, _ = read_npz(test)
    return Dataset.from_arrays(name, x, y, x_test, y_test, task=task, allow_nonfinite=allow_nonfinite)


def read_npz(path: str | os.PathLike[str], need_y: bool = True) -> tuple[np.ndarray | None, ...]:
    """x, y, x_test, y_test of an .npz file; None for what is absent and not needed."""
    arrays = load_arrays(path)
    who = f"load({describe_path(path)})"
    x, x_test, y_test = (
        _one_of(arrays, keys, who, need) for keys, need in ((_X_KEYS, True), (_X_TEST_KEYS, False), (_Y_TEST_KEYS, False))
    )
    return x, _one_of(arrays, _Y_KEYS, who, need_y), x_test, y_test


def target_values(who: str, column: np.ndarray | TextColumn) -> np.ndarray:
    """The values of a target column, text or float64; a missing value is an error."""
    text = isinstance(column, TextColumn)
    missing = np.flatnonzero(column.codes < 0 if text else np.isnan(column)) + 1
    if len(missing):
        raise DataError(expected(who, "a target in every row", f"none in row {listed(missing.tolist(), 5)}"))
    return np.array(column.labels)[column.codes] if text else column


def _load_named(name, data_dir, task):
    dataset = digits() if name == "digits" else (mnist if name == "mnist" else fashion_mnist)(data_dir)
    if task == "regression":
        y_test = None if dataset.y_test is None else dataset.y_test.astype(np.float32)
        dataset = replace(dataset, y=dataset.y.astype(np.float32), y_test=y_test, classes=None, task=task)
    return dataset


def _load_csv(name, source, test, target, task, allow_nonfinite):
    table = read_csv(source)
    target = list(table.columns)[-1] if target is None else target
    if target not in table.columns:
        near = suggest(target, table.columns)
        raise DataError(expected(name, "a column of the file as target", describe(target)) + near)
    if len(table.columns) < 2:
        raise DataError(expected(name, "a target and at least one other column", f"only {describe(target)}"))
    x, y, x_test, y_test = table.without(target), target_values(name, table.columns[target]), None, None
    if test is not None:
        test_table = read_csv(test, kinds=table.kinds)
        x_test, y_test = test_table.without(target), target_values(describe_path(test), test_table.columns[target])
    return Dataset.from_arrays(name, x, y, x_test, y_test, task=task, target=target, allow_nonfinite=allow_nonfinite)


def _one_of(arrays, keys, who, need):
    found = [key for key in keys if key in arrays]
    if len(found) > 1 or (need and not found):
        raise FileFormatError(expected(who, f"one array named {' or '.join(keys)}", f"arrays {listed(arrays)}"))
    return arrays[found[0]] if found else None
