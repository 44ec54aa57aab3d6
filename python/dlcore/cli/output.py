# SPDX-License-Identifier: Apache-2.0
"""What commands print: one JSON object for programs, or lines for people."""

from __future__ import annotations

import json
import math
import sys
from typing import Any


def json_line(values: dict[str, Any]) -> str:
    """One line of JSON: NumPy's numbers as Python's, NaN and infinities as null.

    >>> json_line({"a": float("nan"), "b": (1, 2.5)})
    '{"a": null, "b": [1, 2.5]}'
    """
    return json.dumps(plain(values), allow_nan=False, ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Output:
    """Where a command prints: with ``as_json`` standard output is kept for the one JSON line."""

    def __init__(self, as_json: bool = False, quiet: bool = False):
        self.as_json, self.quiet = as_json, quiet

    def say(self, line: str) -> None:
        """A line for people on the way to the result."""
        if not self.quiet:
            print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def result(self, values: dict[str, Any], text: str) -> None:
        """The result: the JSON object, or its text."""
        print(json_line(values) if self.as_json else text, flush=True)
