# SPDX-License-Identifier: Apache-2.0
"""``dlcore bench``: a door to `dlcore.bench`."""

from __future__ import annotations


def run(argv: list[str]) -> int:
    """Hand the arguments on."""
    from .. import bench

    return bench.main(argv)
