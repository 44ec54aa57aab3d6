# SPDX-License-Identifier: Apache-2.0
"""What predict and evaluate share: a net that ``dlcore train`` kept, and its options."""

from __future__ import annotations

from typing import Any

from ..backend import num_threads
from ..data import Schema
from ..errors import FileFormatError, describe, expected
from ..net import Net
from .parser import check_source

POSITIONALS = {"net": "net.npz of a training run", "data": "rows: as for dlcore train"}


def check(options: dict[str, Any]) -> None:
    """Refuse a wrong use before any file is opened."""
    check_source(options)
    if "threads" in options:
        num_threads(options["threads"])


def load(path: str) -> tuple[Net, Schema]:
    """The net with what it expects of data."""
    net = Net.load(path)
    if "schema" not in net.preprocessing:
        raise FileFormatError(expected("load", "a net that dlcore train kept", f"{describe(path)} without its schema"))
    return net, Schema.from_dict(net.preprocessing["schema"])
