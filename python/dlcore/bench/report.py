# SPDX-License-Identifier: Apache-2.0
"""What is printed: a table for people, one JSON object for programs."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _core
from . import gpu, published
from .measure import Measured
from .peak import Peak
from .timing import NOISE, Gain

COLUMNS = ("variant", "ms", "spread %", "ratio x", "MB", "Mflop", "peak %", "error")
WIDTHS = (20, 11, 9, 9, 10, 11, 8, 9)


def machine(threads: int, peak: Peak | None = None, device: str = "cpu") -> dict[str, Any]:
    """Processor, kernels in use, threads, load, the measured peaks, and the state of a GPU."""
    cpu = _core.cpu_info()
    about = {
        "processor": processor(), "cores": os.cpu_count(), "instruction_set": cpu["chosen"], "threads": threads,
        "load": os.getloadavg()[0],
    }  # fmt: skip
    if peak is not None:
        about["peak_gflops"] = peak.flops / 1e9
        about["read_gb_per_second"] = {f"{size >> 10} KiB": rate / 1e9 for size, rate in peak.read}
    if device != "cpu":
        state = gpu.state()
        about |= {"device": device, "gpu": state, "published": published.about(state.get("name", ""))}
    return about


def processor() -> str:
    """The processor's own name for itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what takes part."""
    from .. import __version__

    return {"dlcore": __version__, "python": platform.python_version(), "numpy": np.__version__}


def command(program: str, argv: list[str]) -> str:
    """The line that repeats a run."""
    return shlex.join([*program.split(), *argv])


def header(about: dict[str, Any]) -> list[str]:
    """Lines above the table."""
    on = f", {about['device']} {' '.join(about['gpu'].values())}".rstrip() if "device" in about else ""
    doing = "copying" if about.get("device") == "cuda" else "reading"
    spec = about.get("published")
    given = [f"published: {' '.join(f'{name} {rate:.4g}' for name, rate in spec.items())} a second"] if spec else []
    read = ", ".join(f"{rate:.0f} GB/s in {size}" for size, rate in about["read_gb_per_second"].items())
    return [
        f"{about['processor']}, {about['threads']} threads, {about['instruction_set']}, load {about['load']:.1f}{on}",
        f"peak: {about['peak_gflops']:.0f} GFLOP/s float32; {doing} {read}",
        *given,
        "ratio: times as fast as unfused unrecorded, round by round; peak %: share of the nearer limit",
        "",
        _line(COLUMNS),
    ]


def _line(cells: Iterable[str]) -> str:
    cells = list(cells)
    first = f"  {cells[0]:<{WIDTHS[0]}}"
    return (first + "".join(f"{c:>{w}}" for c, w in zip(cells[1:], WIDTHS[1:], strict=True))).rstrip()


def block(measured: Measured) -> list[str]:
    """Lines of one row of cases: its name with what the planner's flags bring, and a line a variant."""
    return [f"{measured.row}: {in_words(measured.gains)}", *(_line(_cells(r)) for r in measured.rows)]


def _cells(row: dict[str, Any]) -> list[str]:
    def number(value, unit, digits):
        return "-" if value is None else f"{value / unit:.{digits}f}"

    return [
        row["variant"], f"{row['ms']:.4f}", f"{100 * row['spread']:.1f}", f"{row['ratio']:.2f}",
        number(row["bytes"], 1e6, 3), number(row["flops"], 1e6, 2), number(row["share_of_peak"], 0.01, 0),
        f"{row['error']:.1e}",
    ]  # fmt: skip


def in_words(gains: dict[str, Gain | None]) -> str:
    """The gains by name. One that most rounds do not show, or that is within the noise, is none.

    >>> in_words({"recording": Gain(1.004, 0.99, 1.01), "fusion": Gain(1.5, 1.4, 1.6)})
    'no gain from recording (1.00x), fusion 1.50x'
    """
    return ", ".join(f"{name}: nothing to do" if g is None else _gain(name, g) for name, g in gains.items())


def _gain(name: str, gain: Gain) -> str:
    if gain.low >= 1 + NOISE:
        return f"{name} {gain.times:.2f}x"
    return f"no {'clear ' if gain.times >= 1 + NOISE else ''}gain from {name} ({gain.times:.2f}x)"
