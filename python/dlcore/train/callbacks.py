# SPDX-License-Identifier: Apache-2.0
"""Callbacks: called at the end of every epoch, never inside one. A plain callable ``f(net, row)`` serves as well."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import numpy as np

from ..arguments import finite_float, one_of, positive_int
from ..errors import describe, expected

MONITORS = ("loss", "validation_loss", "validation_accuracy", "accuracy")


class Callback:
    """Base class of what `Net.fit` calls; subclasses override what they need.

    ``on_epoch_end`` may return True to stop; ``reason`` is then that of the history (default: the class).

    Examples
    --------
    >>> import dlcore as dl
    >>> class Target(dl.Callback):
    ...     def on_epoch_end(self, net, row):
    ...         return row["loss"] < 0.1
    >>> Target().on_epoch_end(None, {"epoch": 1, "loss": 0.05})
    True
    """

    reason = ""

    def on_fit_begin(self, net, epochs: int) -> None:
        """Before the first epoch; ``epochs`` is how many there may be."""

    def on_epoch_end(self, net, row: dict) -> bool | None:
        """After each epoch with its row of the history, a dict of names to numbers; True stops."""

    def on_fit_end(self, net, history) -> None:
        """After the last epoch, an exception included."""


class EarlyStopping(Callback):
    """Stop when the monitored number has not improved by ``min_delta`` for ``patience`` epochs.

    The best weights are restored by `Net.fit` itself, whenever there is a validation part.

    Parameters
    ----------
    patience : int
        Epochs without improvement (default 10).
    min_delta : float
        What counts as an improvement (default 0).
    monitor : str
        ``validation_loss`` (default), ``validation_accuracy``, ``loss`` or ``accuracy``.

    Raises
    ------
    ValueError, TypeError
        A number out of its range; another monitor.

    Examples
    --------
    >>> import dlcore as dl
    >>> stop = dl.EarlyStopping(patience=1)
    >>> [bool(stop.on_epoch_end(None, {"validation_loss": v})) for v in (1.0, 0.5, 0.6)]
    [False, False, True]
    """

    reason = "no improvement"

    def __init__(self, patience: int = 10, min_delta: float = 0.0, monitor: str = "validation_loss"):
        self.patience = positive_int("EarlyStopping: patience", patience)
        self.min_delta = finite_float("EarlyStopping: min_delta", min_delta, minimum=0.0)
        self.monitor = one_of("EarlyStopping: monitor", monitor, MONITORS)
        self.best, self.waited = None, 0

    def on_fit_begin(self, net, epochs):
        self.best, self.waited = None, 0

    def on_epoch_end(self, net, row):
        if self.monitor not in row:
            raise ValueError(f"EarlyStopping: expected {self.monitor} among {sorted(row)}; pass validation= to fit")
        value = score(self.monitor, row)
        if self.best is None or value > self.best + self.min_delta:
            self.best, self.waited = value, 0
            return False
        self.waited += 1
        return self.waited >= self.patience


def check_monitor(who: str, monitor: str, loss, validated: bool) -> None:
    """Refuse a column that histories of this loss, with or without a validation part, have not."""
    known = [m for m in MONITORS if loss.task == "classification" or not m.endswith("accuracy")]
    names = [m for m in known if validated or not m.startswith("validation")]
    if monitor not in names:
        hint = "" if validated else "pass validation= to fit"
        what = f"one of {', '.join(map(repr, names))} with {loss!r}"
        raise ValueError(expected(f"{who}: monitor", what, repr(monitor), hint))


def score(monitor: str, row: dict) -> float:
    """The monitored number, so that larger is better; NaN is the worst."""
    value = float(row[monitor])
    value = value if monitor.endswith("accuracy") else -value
    return value if value == value else float("-inf")


class Progress(Callback):
    """One line an epoch: on a terminal a line that renews itself, elsewhere at most one every few seconds.

    `Net.fit` adds one unless ``verbose=0``.

    Parameters
    ----------
    every : float
        Seconds between two lines where there is no terminal (default 5).
    stream : file, optional
        Where to write text (default: standard error, as it is when `Net.fit` begins).

    Examples
    --------
    >>> import dlcore as dl, sys
    >>> net, progress = dl.Net([dl.Linear(1, 1)]), dl.Progress(stream=sys.stdout)
    >>> history = net.fit([[0.0], [1.0]], [0.0, 0.0], epochs=1, callbacks=[progress], verbose=0)  # doctest: +ELLIPSIS
    epoch 1/1  loss ...
    stopped: 1 epochs
    """

    def __init__(self, every: float = 5.0, stream=None):
        self.every, self.stream = finite_float("Progress: every", every, minimum=0.0), stream

    def on_fit_begin(self, net, epochs):
        self.out = self.stream or sys.stderr
        self.live = bool(getattr(self.out, "isatty", lambda: False)())
        self.begin = self.last = time.monotonic()
        self.epochs, self.best, self.pending = epochs, None, None

    def on_epoch_end(self, net, row):
        now = time.monotonic()
        line = self._line(row, now)
        better = row.get("best") == row["epoch"]
        if self.live:
            self.out.write(f"\r\x1b[2K{line}" + ("\n" if better else ""))
            self.out.flush()
            self.pending = None
        elif now - self.last >= self.every or row["epoch"] in (1, self.epochs):
            print(line, file=self.out, flush=True)
            self.last, self.pending = now, None
        else:
            self.pending = line

    def on_fit_end(self, net, history):
        if self.pending:
            print(self.pending, file=self.out)
        if self.live:
            self.out.write("\r\x1b[2K")
        kept = f", kept epoch {history.best}" if history.best else ""
        print(f"stopped: {history.reason}{kept}", file=self.out, flush=True)

    def _line(self, row, now) -> str:
        parts = [f"epoch {row['epoch']}/{self.epochs}", f"loss {row['loss']:.4f}"]
        if "accuracy" in row:
            parts.append(f"accuracy {row['accuracy']:.4f}")
        if "validation_loss" in row:
            parts.append(f"validation {row['validation_loss']:.4f}")
        if "validation_accuracy" in row:
            parts.append(f"accuracy {row['validation_accuracy']:.4f}")
        if row.get("best"):
            parts.append(f"(best @{row['best']})")
        left = (now - self.begin) / row["epoch"] * (self.epochs - row["epoch"])
        parts += [f"lr {row['lr']:.2g}", f"{_short(row['samples_per_second'])} rows/s"]
        parts.append(f"eta {int(left) // 60}:{int(left) % 60:02d}")
        return "  ".join(parts)


def _short(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


class _Function(Callback):
    def __init__(self, function):
        self.function = function
        self.reason = f"callback {getattr(function, '__name__', type(function).__name__)}"

    def on_epoch_end(self, net, row):
        return self.function(net, row)


def as_callbacks(callbacks) -> list[Callback]:
    """Callback objects from callbacks or plain callables."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(expected("fit: callbacks", "a sequence", describe(callbacks), hint="put one in a list: [callback]"))
    result = []
    for c in callbacks:
        if isinstance(c, type) or not (isinstance(c, Callback) or callable(c)):
            raise TypeError(expected("fit", "callbacks or callables", describe(c)))
        result.append(c if isinstance(c, Callback) else _Function(c))
    return result


def stops(callback: Callback, net, row: dict) -> bool:
    """Does a callback end the fit after this epoch?"""
    answer = callback.on_epoch_end(net, row)
    if answer is None or isinstance(answer, (bool, np.bool_)):
        return bool(answer)
    raise TypeError(expected("fit", "a callback that returns True to stop, else False or None", describe(answer)))
