# SPDX-License-Identifier: Apache-2.0
"""Checks of single arguments; every message reads `who: expected X, got Y`."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable

from .errors import describe, expected, suggest


def positive_int(who: str, value, minimum: int = 1) -> int:
    """An integer of at least ``minimum``."""
    if isinstance(value, bool):
        raise TypeError(f"{who}: expected an integer >= {minimum}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{who}: expected an integer >= {minimum}, got {describe(value)}") from None
    if number < minimum or number >= 2**62:
        below = "" if number < minimum else " below 2**62"
        raise ValueError(f"{who}: expected an integer >= {minimum}{below}, got {describe(number)}")
    return number


def seed_of(who: str, value) -> int:
    """An integer that keys random numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**63:
        raise ValueError(f"{who}: expected seed to be an integer in [0, 2**63), got {describe(value)}")
    return int(value)


def finite_float(who: str, value, minimum: float | None = None, maximum: float | None = None, exclusive: bool = False) -> float:
    """A finite number in [minimum, maximum]; ``exclusive`` leaves out the minimum."""
    bounds = []
    if minimum is not None:
        bounds.append(f"{'>' if exclusive else '>='} {minimum:g}")
    if maximum is not None:
        bounds.append(f"<= {maximum:g}")
    wanted = " ".join(["a finite number", *[" and ".join(bounds)]]).strip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{who}: expected {wanted}, got {describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    low = minimum is not None and (number < minimum or (exclusive and number == minimum))
    if not math.isfinite(number) or low or (maximum is not None and number > maximum):
        raise ValueError(f"{who}: expected {wanted}, got {describe(value)}")
    return number


def one_of(who: str, value, choices: Iterable[str]) -> str:
    """One of several names; the error suggests the nearest."""
    names = list(choices)
    if isinstance(value, str) and value in names:
        return value
    raise ValueError(expected(who, f"one of {', '.join(map(repr, names))}", describe(value)) + suggest(value, names))


def instance_of(who: str, value, base: type, what: str):
    """An object of a class; the error tells a class to be called."""
    if isinstance(value, base):
        return value
    hint = f"call it: {value.__name__}()" if isinstance(value, type) else ""
    raise TypeError(expected(who, what, describe(value), hint))
