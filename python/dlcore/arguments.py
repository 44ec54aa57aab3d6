# SPDX-License-Identifier: Apache-2.0
"""Checks of single arguments; every message reads `who: expected X, got Y`."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable

from .errors import suggest


def positive_int(who: str, value, minimum: int = 1) -> int:
    """An integer of at least ``minimum``."""
    if isinstance(value, bool):
        raise TypeError(f"{who}: expected an integer >= {minimum}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{who}: expected an integer >= {minimum}, got {value!r}") from None
    if number < minimum or number >= 2**62:
        raise ValueError(f"{who}: expected an integer >= {minimum}, got {number}")
    return number


def finite_float(who: str, value, minimum: float | None = None, maximum: float | None = None, exclusive: bool = False) -> float:
    """A finite number in [minimum, maximum]; ``exclusive`` leaves out the minimum."""
    bounds = []
    if minimum is not None:
        bounds.append(f"{'>' if exclusive else '>='} {minimum:g}")
    if maximum is not None:
        bounds.append(f"<= {maximum:g}")
    wanted = " ".join(["a finite number", *[" and ".join(bounds)]]).strip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{who}: expected {wanted}, got {value!r}")
    number = float(value)
    low = minimum is not None and (number < minimum or (exclusive and number == minimum))
    if not math.isfinite(number) or low or (maximum is not None and number > maximum):
        raise ValueError(f"{who}: expected {wanted}, got {value!r}")
    return number


def one_of(who: str, value, choices: Iterable[str]) -> str:
    """One of several names; the error suggests the nearest."""
    names = list(choices)
    if value in names:
        return value
    raise ValueError(f"{who}: expected one of {', '.join(map(repr, names))}, got {value!r}{suggest(value, names)}")
