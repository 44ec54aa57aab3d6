# SPDX-License-Identifier: Apache-2.0
"""What training leaves behind: one row of numbers for each epoch."""

from __future__ import annotations

import csv
import io


class History:
    """Rows of numbers by epoch.

    ``history["loss"]`` is a column; ``history.rows`` the list of dicts; ``best`` the epoch (from 1) whose weights were kept;
    ``reason`` says why training stopped. ``lr`` is the rate of an epoch's last update.

    Examples
    --------
    >>> import dlcore as dl
    >>> history = dl.Net([dl.Linear(1, 1)]).fit([[0.0], [1.0]], [0.0, 0.0], epochs=2, verbose=0)
    >>> history["epoch"], history.reason
    ([1, 2], '2 epochs')
    """

    def __init__(self):
        self.rows: list[dict] = []
        self.best: int | None = None
        self.reason = ""

    def __getitem__(self, name: str) -> list:
        if not any(name in row for row in self.rows):
            known = sorted({k for row in self.rows for k in row})
            raise KeyError(f"history: expected one of {known}, got {name!r}")
        return [row.get(name) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, best={self.best}, reason={self.reason!r})"

    def csv(self) -> str:
        """The rows as CSV text."""
        names = list(dict.fromkeys(k for row in self.rows for k in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()
