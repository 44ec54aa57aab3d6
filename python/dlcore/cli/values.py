# SPDX-License-Identifier: Apache-2.0
"""Converters: the text of an argument, or the value of a configuration file, to the value of an option."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import suggest


class Unexpected(ValueError):
    """Says what was expected; ``hint`` ends the message."""

    def __init__(self, what: str, hint: str = ""):
        super().__init__(what)
        self.hint = hint


def boolean(value: Any) -> bool:
    """A flag; on the command line argparse has made it a bool."""
    if not isinstance(value, bool):
        raise Unexpected("true or false")
    return value


def text(value: Any) -> str:
    """A name or a path, not empty."""
    if not isinstance(value, str) or not value:
        raise Unexpected("a text that is not empty")
    return value


def integer(minimum: int, maximum: int = 2**31 - 1) -> Callable[[Any], int]:
    """An integer in [minimum, maximum].

    >>> integer(1)("12"), integer(1)(12)
    (12, 12)
    """

    def convert(value: Any) -> int:
        what = f"an integer >= {minimum}" if maximum == 2**31 - 1 else f"an integer from {minimum} to {maximum}"
        number: int = _parsed(int, value, what)
        if isinstance(value, (bool, float)) or number < minimum:
            raise Unexpected(what)
        if number > maximum:
            raise Unexpected(f"an integer from {minimum} to {maximum}")
        return number

    return convert


def real(what: str, accept: Callable[[float], bool]) -> Callable[[Any], float]:
    """A finite number that ``accept`` takes.

    >>> real("a number > 0", lambda x: x > 0)("1e-3")
    0.001
    """

    def convert(value: Any) -> float:
        number: float = _parsed(float, value, what)
        if isinstance(value, bool) or not math.isfinite(number) or not accept(number):
            raise Unexpected(what)
        return number

    return convert


def name_of(names: Iterable[str]) -> Callable[[Any], str]:
    """One of some names; _ and - are the same.

    >>> name_of(["leaky-relu", "relu"])("leaky_relu")
    'leaky-relu'
    """
    known = list(names)

    def convert(value: Any) -> str:
        name = value.replace("_", "-").lower() if isinstance(value, str) else value
        if name not in known:
            raise Unexpected(f"one of {', '.join(known)}", suggest(name, known))
        return name

    return convert


def device(value: Any) -> str:
    """auto, cpu, cuda, or one of several GPUs.

    >>> device("CPU"), device("cuda:1")
    ('cpu', 'cuda:1')
    """
    kind, colon, number = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "cuda" and colon and number.isdecimal():
        return f"cuda:{int(number)}"
    return name_of(("auto", "cpu", "cuda"))(value)


def widths(value: Any) -> tuple[int, ...]:
    """Layer widths: "512,256", [512, 256], or "none".

    >>> widths("512,256"), widths("none"), widths([8])
    ((512, 256), (), (8,))
    """
    if value == "none":
        return ()
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        return tuple(map(integer(1), parts))
    except Unexpected:
        raise Unexpected("widths >= 1 separated by commas, or none") from None


def _parsed(kind: type, value: Any, what: str) -> Any:
    if not isinstance(value, (str, int, float)):
        raise Unexpected(what)
    try:
        return kind(value)
    except (ValueError, OverflowError):
        raise Unexpected(what) from None
