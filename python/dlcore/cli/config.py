# SPDX-License-Identifier: Apache-2.0
"""Configuration files: TOML whose keys are the names of the options (and of the positionals)."""

from __future__ import annotations

import tomllib
from typing import Any

from ..errors import FileFormatError, describe, expected, suggest
from ..io.atomic import open_regular
from .parser import Parser, UsageError
from .values import text

NOT_IN_FILES = ("config", "debug")


def read(path: str, parser: Parser) -> dict[str, Any]:
    """The values that a file gives, converted as those of the command line are.

    Raises
    ------
    UsageError
        An unknown key (the nearest is suggested) or a value that its option refuses.
    FileFormatError, OSError
        No readable TOML.
    """
    content = _parse(path)
    known = [*parser.positionals, *(o.name for k, o in parser.options.items() if k not in NOT_IN_FILES)]
    values = {}
    for name, given in content.items():
        key = name.replace("-", "_")
        if name.replace("_", "-") not in known:
            raise UsageError(f"expected an option's name as key in {describe(path)}, got {name!r}{suggest(name, known)}")
        if key in values:
            raise UsageError(f"expected {name!r} once in {describe(path)}, got it twice")
        called = f"{name!r} in {path}"
        if key in parser.options:
            values[key] = parser.options[key].value(given, called)
        else:
            values[key] = text(given) if isinstance(given, str) else _refuse(called, given)
    return values


def _refuse(called: str, given: Any) -> str:
    raise UsageError(f"expected {called} to be a text, got {describe(given)}")


def _parse(path: str) -> dict[str, Any]:
    who = "config"
    with open_regular(path, who) as file:
        try:
            return tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FileFormatError(expected(who, f"TOML in {describe(path)}", error)) from None
