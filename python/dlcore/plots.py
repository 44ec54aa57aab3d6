# SPDX-License-Identifier: Apache-2.0
"""Learning curves: functions that take and return Matplotlib axes and never show a window.

Matplotlib comes with ``pip install "dlcore[plot]"`` and is imported when a function here is first called. Colours are
Okabe and Ito's, told apart by the colour-blind, and lines differ in style for print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .io import atomic_write

if TYPE_CHECKING:
    from .train.history import History

TRAINING = {"color": "#0072B2", "linestyle": "--", "label": "training"}
VALIDATION = {"color": "#D55E00", "linestyle": "-", "label": "validation"}
DECADE = 10  # a ratio of largest to smallest value from which an axis is logarithmic


def losses(history: History, axes: Any = None) -> Any:
    """Training and validation loss by epoch; a dotted line marks the epoch whose weights were kept."""
    axes = axes or _figure("losses").subplots()
    _curves(history, axes, "loss")
    axes.set_ylabel("loss (mean per row)")
    return axes


def accuracies(history: History, axes: Any = None) -> Any:
    """Training and validation accuracy by epoch, in percent."""
    axes = axes or _figure("accuracies").subplots()
    _curves(history, axes, "accuracy", scale=100)
    axes.set_ylabel("accuracy (%)")
    return axes


def learning_rate(history: History, axes: Any = None) -> Any:
    """The learning rate at the beginning of each epoch."""
    axes = axes or _figure("learning_rate").subplots()
    axes.plot(history["epoch"], history["lr"], color="#000000", linewidth=1)
    axes.set_ylabel("learning rate")
    return axes


def learning_curves(history: History, axes: Sequence[Any] | None = None) -> list[Any]:
    """Losses, accuracies where there are some, and the learning rate, one above the other.

    Parameters
    ----------
    history : History
        At least one epoch, as `Net.fit` returns it.
    axes : sequence of Axes, optional
        Three for classification, two for regression (default: those of a new figure).

    Returns
    -------
    axes : list of Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.

    Examples
    --------
    >>> axes = learning_curves(net.fit(x, y, validation=0.1))  # doctest: +SKIP
    >>> axes[0].figure.savefig("curves.png")  # doctest: +SKIP
    """
    panels = [losses, *([accuracies] if "accuracy" in history.rows[0] else []), learning_rate]
    if axes is None:
        heights = [3.0] * (len(panels) - 1) + [1.0]
        figure = _figure("learning_curves", height=2 + 1.1 * sum(heights) / 1.5)
        axes = figure.subplots(len(panels), sharex=True, height_ratios=heights)
    drawn = [draw(history, panel) for draw, panel in zip(panels, axes, strict=True)]
    drawn[-1].set_xlabel("epoch")
    drawn[-1].xaxis.get_major_locator().set_params(integer=True)
    return drawn


def save_learning_curves(history: History, path: Any, title: str = "") -> None:
    """`learning_curves` as a PNG file, written atomically."""
    figure = learning_curves(history)[0].figure
    figure.suptitle(title)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _curves(history: History, axes: Any, name: str, scale: float = 1) -> None:
    values: list[float] = []
    for key, style in ((name, TRAINING), (f"validation_{name}", VALIDATION)):
        if key in history.rows[0]:
            column = [scale * v for v in history[key]]
            # A single epoch is a point, which a line would not show.
            axes.plot(history["epoch"], column, marker="o" if len(column) == 1 else None, **style)
            values += column
    if history.best:
        axes.axvline(history.best, color="#666666", linestyle=":", linewidth=1, label=f"kept: epoch {history.best}")
    if name == "loss" and min(values) > 0 and max(values) > DECADE * min(values):
        _logarithmic(axes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    # 0.1, 0.2, 0.5, 1 instead of powers of ten.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _figure(who: str, height: float = 4.0) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(f'{who}: expected Matplotlib, got none; pip install "dlcore[plot]"') from None
    # A Figure of its own, not pyplot's: no window system, no global state.
    return Figure(figsize=(6.4, height), layout="constrained")
