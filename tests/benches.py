# SPDX-License-Identifier: Apache-2.0
"""What the tests of bench/ share: its folder, a way to run its programs, processes that answer as they are told, and rows and
results that were never measured."""

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlcore.bench import peak

FOLDER = Path(__file__).resolve().parents[1] / "bench"
sys.path.append(str(FOLDER))
compare, process = map(importlib.import_module, ("compare", "process"))
REQUIRED = bool(os.environ.get("DLCORE_REQUIRE_PEERS"))
LIMITS = peak.Peak(1, 1e9, ((1 << 20, 1e10), (1 << 30, 1e9)))
ABOUT = {
    name: {"version": "1", "precision": precision}
    for name, precision in {"dlcore": "float32", "torch_eager": "float32", "numpy": "float32", "torch_bf16": "bf16",
                            "torch_compile_bf16": "bf16", "dlcore_bf16": "bf16", "dlcore_mma": "float32",
                            "jax": "float32"}.items()
}  # fmt: skip


def python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=FOLDER, timeout=300, check=False
    )


def need(package, required=REQUIRED):
    if not required and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


class Scripted:
    """A process that gives the same answers again and again, and fails at the n-th of one kind."""

    def __init__(self, name, fails="", after=0, values=(1.0,) * compare.STEPS):
        self.name, self.fails, self.left, self.seconds = name, fails, after, 1.0
        self.answers = {"check": {"values": list(values)}, "setup": {}, "begin": {}, "memory": {"rss_mb": 1.0}}

    def send(self, do, **_):
        pass

    def answer(self, do):
        if do == self.fails:
            self.left -= 1
            if self.left < 0:
                raise process.Failed(f"{self.name}: no {do}")
        return self.answers.get(do) or {"seconds": self.seconds}


class ScriptedPool:
    def __init__(self, *processes):
        self.processes = {p.name: p for p in processes}

    @contextlib.contextmanager
    def started(self, names):
        yield {name: self.processes[name] for name in names}


def made(seconds, row="a row", floor=0.5, bound="bytes"):
    """Rows of a comparison by contestant."""
    ones, rounds = dict.fromkeys(seconds, 1.0), len(next(iter(seconds.values())))
    return {r["contestant"]: r for r in compare.table_rows(row, seconds, ABOUT, ones, ones, [floor] * rounds, bound)}


def result(**changes):
    rows = made({"dlcore": [1.0, 1.1], "torch_eager": [2.0, 2.0], "numpy": [4.0, 4.4], "torch_bf16": [1.0, 1.0],
                 "torch_compile_bf16": [0.5, 0.5]}, "W7_tiny")  # fmt: skip
    machine = {"processor": "a processor", "threads": 2, "instruction_set": "avx2"}
    return {"action": "train", "date": "2026-01-31", "command": "python bench/peers.py", "machine": machine,
            "rows": list(rows.values()), **changes}  # fmt: skip
