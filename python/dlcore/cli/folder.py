# SPDX-License-Identifier: Apache-2.0
"""The folder that ``--out`` names: net.npz, config.json, log.csv and curves.png, each written atomically."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..io import atomic_write
from . import report
from .output import plain

if TYPE_CHECKING:
    from .train import Run


def create(path: str) -> str:
    """Make the folder, its parents too."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise type(error)(f"expected --out to be a folder, got {path!r}: {error.strerror}") from None
    return path


def fill(path: str, run: Run) -> list[str]:
    """Write everything; the names of the files."""
    run.net.save(os.path.join(path, "net.npz"))
    files = ["net.npz", "config.json"]
    _write(os.path.join(path, "config.json"), json.dumps(plain(_configuration(run)), indent=2, allow_nan=False) + "\n")
    if len(run.history):
        _write(os.path.join(path, "log.csv"), run.history.csv())
        files += ["log.csv", *_draw(path, run)]
    return files


def _configuration(run: Run) -> dict[str, Any]:
    given = {k: v for k, v in run.options.items() if k not in ("json", "quiet", "out", "config")}
    resolved = {
        "seed": run.seed, "precision": run.net.precision, "threads": run.net.threads, "device": run.net.device,
        "gemm": run.net.gemm,
    }  # fmt: skip
    return {"dlcore": __version__, **resolved, **given, **report.settings(run.settings)}


def _draw(path: str, run: Run) -> list[str]:
    from ..plots import save_learning_curves

    try:
        save_learning_curves(run.history, os.path.join(path, "curves.png"), title=run.name)
    except ImportError:  # Matplotlib is optional
        return []
    return ["curves.png"]


def _write(path: str, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())
