# SPDX-License-Identifier: Apache-2.0
"""Messages of one form, `who: expected X, got Y`, and the errors of data and files that cannot be used."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np


class DataError(ValueError):
    """Values that cannot be used: one class only, a missing target, NaN, an unknown column."""


class FileFormatError(DataError):
    """A file that is not what its reader expects: truncated, altered, of another kind."""


def expected(who: str, what: object, got: object, hint: str = "") -> str:
    """One line `who: expected what, got got; hint`.

    Parameters
    ----------
    who, what, got, hint : str
        The function or layer, what it takes, what it was given, and what to do about it.

    Examples
    --------
    >>> expected("Linear(3, 2)", "3 input columns", "(5, 4)", hint="set in_features=4")
    'Linear(3, 2): expected 3 input columns, got (5, 4); set in_features=4'
    """
    text = f"{who}: expected {what}, got {got}"
    if hint:
        text += f"; {hint}"
    return " ".join(text.split())


def suggest(name: object, choices: Iterable[object]) -> str:
    """The end of a message that names the nearest of the choices, or nothing when none is near.

    Examples
    --------
    >>> suggest("rellu", ["relu", "gelu", "tanh"])
    "; did you mean 'relu'?"
    >>> suggest("xyzzy", ["relu", "gelu", "tanh"])
    ''
    """
    import difflib  # imported here: only a failing call pays for it

    if not isinstance(name, str):
        return ""
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def describe(value: Any, limit: int = 60) -> str:
    """A short text of what was given: dtype and shape of an array, a plain value or class, else the type.

    Examples
    --------
    >>> describe(np.zeros((128, 784), np.float32))
    'float32 array of shape (128, 784)'
    >>> describe([1, 2, 3]), describe("relu"), describe(None), describe(float)
    ('a list of 3', "'relu'", 'None', 'the class float')
    """
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.dtype)):
        return shorten(_representation(value), limit)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (list, tuple, dict, set)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an object of type {type(value).__name__}"


def describe_path(path: Any) -> str:
    """The path in quotes, whole unless it is absurdly long: the reader of a message wants to find the file."""
    return describe(path, limit=1000)


def shorten(text: str, limit: int = 60) -> str:
    """The text, its middle left out where it is longer than limit characters."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def _representation(value):
    # Python refuses to print integers of more than 4,300 digits.
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    return str(value) if isinstance(value, np.generic) else repr(value)


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Names in quotes, at most limit of them.

    Examples
    --------
    >>> listed(["x", "y"]), listed("abc", limit=1)
    ("'x', 'y'", "'a' and 2 more")
    """
    names = list(names)
    text = ", ".join(shorten(repr(name)) for name in names[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text or "none"
