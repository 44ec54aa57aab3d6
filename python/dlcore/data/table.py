# SPDX-License-Identifier: Apache-2.0
"""CSV files as tables of numeric and text columns, with missing values.

A column is numeric when every value of the file that is not missing reads as a number, else text. The kinds are
part of a data set's description: a second file (test rows, rows to predict) is read with the kinds of the first.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, FileFormatError, describe, describe_path, expected, listed, suggest
from .reading import read_bytes

MISSING = frozenset(["", "?", "na", "nan", "null", "none"])  # compared in lower case
NUMBER, TEXT = "number", "text"


@dataclass(frozen=True)
class TextColumn:
    """Values as codes into sorted labels; -1 where a value is missing."""

    codes: np.ndarray  # int32 (rows,)
    labels: tuple  # of str

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, rows):
        return TextColumn(self.codes[rows], self.labels)


@dataclass(frozen=True)
class Table:
    """Columns by name: float64 arrays (missing: NaN) and TextColumns."""

    columns: dict

    def __len__(self):
        return len(next(iter(self.columns.values())))

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column, "number" or "text", by name."""
        return {name: TEXT if isinstance(column, TextColumn) else NUMBER for name, column in self.columns.items()}

    def __getitem__(self, rows: np.ndarray) -> Table:
        """The table of these rows, in this order."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    def without(self, name: str | None) -> Table:
        """The table of the other columns."""
        return Table({other: column for other, column in self.columns.items() if other != name})


def read_csv(path: str | os.PathLike[str], *, kinds: dict[str, str] | None = None) -> Table:
    """Read a CSV file (UTF-8, plain or gzipped, a header line, comma-separated).

    Missing are, in any case, an empty field, ?, NA, NaN, null and None. Spaces around values are dropped.

    Parameters
    ----------
    path : str or os.PathLike
    kinds : dict of str to {"number", "text"}, optional
        The columns to read, all of which must be there; others are ignored. Without it: all, each kind found out.

    Returns
    -------
    table : Table

    Raises
    ------
    FileFormatError
        If the file is no such CSV: rows of unequal length, not UTF-8, no header.
    DataError
        If a column is missing, or has text where numbers are wanted.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "people.csv")
    >>> with open(path, "w") as file:
    ...     written = file.write("age,city\\n31,Oslo\\n?,Rome\\n")
    >>> table = read_csv(path)
    >>> table.kinds, table.columns["age"].tolist(), table.columns["city"].labels
    ({'age': 'number', 'city': 'text'}, [31.0, nan], ('Oslo', 'Rome'))
    """
    who = f"read_csv({describe_path(path)})"
    names, rows = _split(_decode(read_bytes(path, who), who), who)
    fields = dict(zip(names, zip(*rows, strict=True), strict=True))
    if kinds is None:
        kinds = dict.fromkeys(names)
    for name in kinds:
        if name not in fields:
            raise DataError(expected(who, f"a column {name!r}", f"columns {listed(names)}") + suggest(name, names))
    return Table({name: _column(fields[name], kind, name, who) for name, kind in kinds.items()})


def _decode(content, who):
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"byte {content[error.start]:#x} in line {line}"
        raise FileFormatError(expected(who, "text in UTF-8", got)) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FileFormatError(expected(who, "text", f"a zero byte in line {line}"))
    return text


def _split(text, who):
    """The names of the header and the rows as lists of str, all of one length; blank lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    names, rows = None, []
    try:
        for row in reader:
            if names is None:
                names = _header(row, who) if row else None
            elif len(row) == len(names):
                rows.append(row)
            elif row:
                raise FileFormatError(
                    expected(who, f"{len(names)} fields as in the header", f"{len(row)} in line {reader.line_num}")
                )
    except csv.Error as error:
        raise FileFormatError(expected(who, "well-formed CSV", f"{error} in line {reader.line_num}")) from error
    if not rows:
        got = "nothing" if names is None else "a header alone"
        raise FileFormatError(expected(who, "a header and at least one row", got))
    return names, rows


def _header(row, who):
    names = [name.strip() for name in row]
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise FileFormatError(expected(who, "fields separated by commas", f"the header {describe(names[0])}"))
    for place, name in enumerate(names):
        if not name:
            raise FileFormatError(
                expected(who, f"a name for column {place + 1}", "none", hint="is it an index? write the file without it")
            )
        if name in names[:place]:
            raise FileFormatError(expected(who, "different column names", f"{describe(name)} twice"))
    if all(_number(name) is not None for name in names):
        raise FileFormatError(expected(who, "a header line with the columns' names", f"numbers: {listed(names, 3)}"))
    return names


def _number(field):
    """The value of a field, NaN where it is missing, None where it is text."""
    if field.strip().lower() in MISSING:
        return np.nan
    try:
        # Python reads 1_000 as a number; in a file it is a name.
        return None if "_" in field else float(field)
    except ValueError:
        return None


def _column(fields, kind, name, who):
    distinct = set(fields)
    if kind != TEXT:
        values = {field: _number(field) for field in distinct}
        if None not in values.values():
            return np.fromiter(map(values.__getitem__, fields), np.float64, len(fields))
        if kind == NUMBER:
            row, field = next((row, field) for row, field in enumerate(fields) if values[field] is None)
            raise DataError(expected(who, f"numbers in column {name!r}", f"{describe(field)} in row {row + 1}"))
    return _text_column(fields, distinct)


def _text_column(fields, distinct):
    stripped = {field: field.strip() for field in distinct}
    labels = sorted({label for label in stripped.values() if label.lower() not in MISSING})
    places = {label: place for place, label in enumerate(labels)}
    codes = {field: places.get(label, -1) for field, label in stripped.items()}
    return TextColumn(np.fromiter(map(codes.__getitem__, fields), np.int32, len(fields)), tuple(labels))
