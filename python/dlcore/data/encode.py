# SPDX-License-Identifier: Apache-2.0
"""Tables as matrices: what a column becomes is learned from the training rows and applied to all others."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError, describe, expected
from .table import NUMBER, TEXT, Table, TextColumn

MAX_CATEGORIES = 255
OTHER = "other"


class TableEncoder:
    """Turns a Table into a float32 matrix.

    A numeric column becomes itself, missing values replaced by the training mean, and, when values were missing in
    training, an indicator column. A text column becomes one column for each category, sorted, and one for missing
    values when there were some in training; a category that training did not have is all zeros. Of more than 255
    categories the 255 most frequent are kept (of equally frequent ones the first in order) and the rest, with all
    that are met later, are "other". A text column whose training values are all different, more than 255 of them,
    names rows instead of describing them: it is left out and listed in `ignored`.

    Attributes
    ----------
    kinds : dict of str to {"number", "text"}
        The columns that a table must have, for `read_csv`.
    features : list of str
        The names of the matrix's columns: "age", "age missing", "city=Oslo".
    ignored : list of str

    Examples
    --------
    >>> from dlcore.data.table import Table
    >>> city = TextColumn(np.array([1, 0, -1]), ("Oslo", "Rome"))
    >>> table = Table({"age": np.array([20.0, np.nan, 40.0]), "city": city})
    >>> encoder = TableEncoder().fit(table)
    >>> encoder.features
    ['age', 'age missing', 'city=Oslo', 'city=Rome', 'city missing']
    >>> encoder.transform(table).tolist()
    [[20.0, 0.0, 0.0, 1.0, 0.0], [30.0, 1.0, 1.0, 0.0, 0.0], [40.0, 0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self) -> None:
        self._columns: list[dict[str, Any]] = []  # one dict a column, in order; the JSON of to_dict

    def fit(self, table: Table) -> TableEncoder:
        """Learn means and categories from a Table of training rows; returns self."""
        self._columns = [
            _fit_text(name, column) if isinstance(column, TextColumn) else _fit_number(name, column)
            for name, column in table.columns.items()
        ]
        if not self.features:
            raise DataError(
                expected("TableEncoder", "a column that describes the rows", f"{len(self._columns)} columns, none of use")
            )
        return self

    @property
    def kinds(self) -> dict[str, str]:
        return {column["name"]: column["kind"] for column in self._columns}

    @property
    def features(self) -> list[str]:
        return [feature for column in self._columns for feature in _features(column)]

    @property
    def ignored(self) -> list[str]:
        return [column["name"] for column in self._columns if not _features(column)]

    def transform(self, table: Table) -> np.ndarray:
        """The float32 matrix (rows, features) of a Table with these columns; others are ignored."""
        for name, kind in self.kinds.items():
            if table.kinds.get(name) != kind:
                raise DataError(
                    expected(
                        "TableEncoder",
                        f"a {kind} column {name!r}",
                        table.kinds.get(name, "no such column"),
                        hint="read the file with kinds=encoder.kinds",
                    )
                )
        matrix = np.zeros((len(table), len(self.features)), np.float32)
        place = 0
        for column in self._columns:
            block = matrix[:, place : place + len(_features(column))]
            (_fill_text if column["kind"] == TEXT else _fill_number)(block, column, table.columns[column["name"]])
            place += block.shape[1]
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-able lists and dicts."""
        return {"columns": [dict(column) for column in self._columns]}

    @classmethod
    def from_dict(cls, state: Any) -> TableEncoder:
        """The encoder that `to_dict` described; DataError when the state is not of that form."""
        encoder = cls()
        columns = state.get("columns") if isinstance(state, dict) else None
        if not isinstance(columns, list) or not columns or not all(map(_is_column, columns)):
            raise DataError(expected("TableEncoder.from_dict", "the state of an encoder", describe(state)))
        encoder._columns = [dict(column) for column in columns]
        return encoder


def _fit_number(name, values):
    finite = values[np.isfinite(values)]
    return {
        "name": name,
        "kind": NUMBER,
        "mean": float(finite.mean()) if len(finite) else 0.0,
        "missing": bool(np.isnan(values).any()),
    }


def _fit_text(name, column):
    there = column.codes[column.codes >= 0]
    counts = np.bincount(there, minlength=len(column.labels))
    # A stable sort keeps equally frequent labels in their order.
    kept = [code for code in np.argsort(-counts, kind="stable")[:MAX_CATEGORIES] if counts[code]]
    other = bool((counts > 0).sum() > MAX_CATEGORIES)
    names_rows = other and counts.max() == 1
    return {
        "name": name,
        "kind": TEXT,
        "labels": [] if names_rows else sorted(column.labels[code] for code in kept),
        "other": other and not names_rows,
        "missing": len(there) < len(column) and not names_rows,
    }


def _features(column):
    name = column["name"]
    features = [name] if column["kind"] == NUMBER else [f"{name}={label}" for label in column["labels"]]
    return features + [f"{name} {OTHER}"] * column.get("other", False) + [f"{name} missing"] * column["missing"]


def _fill_number(block, column, values):
    missing = np.isnan(values)
    with np.errstate(over="ignore"):
        block[:, 0] = np.where(missing, column["mean"], values)
    if column["missing"]:
        block[:, 1] = missing


def _fill_text(block, column, values):
    places = {label: place for place, label in enumerate(column["labels"])}
    unseen = len(places) if column["other"] else -1
    missing = block.shape[1] - 1 if column["missing"] else -1
    lookup = np.array([places.get(label, unseen) for label in values.labels] + [missing], np.int64)
    place = lookup[values.codes]  # code -1 reads the last entry
    rows = np.flatnonzero(place >= 0)
    block[rows, place[rows]] = 1


def _is_column(column):
    if not isinstance(column, dict) or not isinstance(column.get("name"), str):
        return False
    if type(column.get("missing")) is not bool:
        return False
    if column.get("kind") == NUMBER:
        return type(column.get("mean")) is float and bool(np.isfinite(column["mean"]))
    labels = column.get("labels")
    return (
        column.get("kind") == TEXT
        and type(column.get("other")) is bool
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
    )
