# SPDX-License-Identifier: Apache-2.0
"""Rows for a net that exists: read by its schema, to predict or to evaluate."""

from __future__ import annotations

import os

import numpy as np

from ..errors import DataError, describe_path, expected
from .dataset import checked_features, encode_target
from .preparation import held_out
from .schema import Schema
from .source import NAMED, load, read_npz, source_kind, target_values
from .table import NUMBER, TEXT, read_csv
from .task import as_target


def load_features(
    source: str | os.PathLike[str],
    schema: Schema,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    allow_nonfinite: bool = False,
) -> np.ndarray:
    """The matrix that a net with this schema takes, read from a source; no target is needed.

    Parameters
    ----------
    source, data_dir, allow_nonfinite
        As for `load`; of the named data sets the same rows as by `load_labelled`.
    schema : Schema

    Returns
    -------
    x : ndarray of shape (rows, schema.width)

    Examples
    --------
    >>> load_features("digits", Schema("classification", 64, list(range(10)))).shape
    (359, 64)
    """
    return _read(source, schema, data_dir, allow_nonfinite, need_y=False)[0]


def load_labelled(
    source: str | os.PathLike[str],
    schema: Schema,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    allow_nonfinite: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets for a net with this schema, to evaluate it: all rows of a file.

    Of "mnist" and "fashion-mnist" it is their test part, of "digits" the fifth that training held out.

    Parameters
    ----------
    source, data_dir, allow_nonfinite
        As for `load`.
    schema : Schema

    Returns
    -------
    x : ndarray of shape (rows, schema.width)
    y : ndarray
        int32 places in schema.classes, or float32.

    Examples
    --------
    >>> x, y = load_labelled("digits", Schema("classification", 64, list(range(10))))
    >>> x.shape, y.shape
    ((359, 64), (359,))
    """
    return _read(source, schema, data_dir, allow_nonfinite, need_y=True)


def _read(source, schema, data_dir, allow_nonfinite, need_y):
    who, kind = f"load({describe_path(source)})", source_kind(source, data_dir=data_dir)
    if kind in NAMED:
        x, y = _read_named(who, kind, data_dir, schema)
    elif kind == "csv":
        x, y = _read_table(who, source, schema, allow_nonfinite, need_y)
    elif schema.encoder:
        raise DataError(expected(who, "a CSV file with the columns of training", "an .npz file"))
    else:
        x, y, _, _ = read_npz(source, need_y)
    if kind != "csv":
        x, _ = checked_features(who, "x", x, allow_nonfinite)
    if x.shape[1] != schema.width:
        raise DataError(expected(who, f"{schema.width} features", x.shape[1]))
    if need_y and kind not in NAMED:
        y = encode_target(who, as_target(who, y, len(x)), schema.classes, allow_nonfinite)
    return x, y


def _read_named(who, kind, data_dir, schema):
    dataset = load(kind, data_dir=data_dir, task=schema.task)
    if schema.classes != dataset.classes or schema.encoder:
        raise DataError(expected(who, "the classes that the net was trained with", f"those of {kind}"))
    if dataset.y_test is not None:
        return dataset.x_test, dataset.y_test
    _, held = held_out(dataset)
    return dataset.x[held], dataset.y[held]


def _read_table(who, source, schema, allow_nonfinite, need_y):
    if not schema.encoder:
        raise DataError(expected(who, "an .npz file or a data set of the kind of training", "a CSV file"))
    kinds = schema.encoder.kinds
    if need_y:
        text = schema.classes is not None and isinstance(schema.classes[0], str)
        kinds = {**kinds, schema.target: TEXT if text else NUMBER}
    table = read_csv(source, kinds=kinds)
    y = target_values(who, table.columns[schema.target]) if need_y else None
    checked_features(who, "x", table.without(schema.target), allow_nonfinite)
    return schema.encoder.transform(table), y
