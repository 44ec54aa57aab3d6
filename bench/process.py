# SPDX-License-Identifier: Apache-2.0
"""The driver's end of a worker."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

from contestants import entry

WORKER = Path(__file__).with_name("worker.py")
TIME_BOX = 600  # seconds of one request
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failed(RuntimeError):
    """A contestant that cannot go on."""


class Absent(Failed):
    """A contestant whose library is not installed."""


class Process:
    """A contestant in a process of its own; a context manager that ends it.

    Parameters
    ----------
    name : str
    threads : int
    device : str
    """

    def __init__(self, name: str, threads: int, device: str = "cpu"):
        self.name = name
        pools = dict.fromkeys(POOLS, str(threads))
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), name, str(threads), device], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, bufsize=1, env={**os.environ, **pools, **entry(name, device).environment},
        )  # fmt: skip

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, do: str, **arguments) -> dict:
        """One request and its answer.

        Raises
        ------
        Absent
            Its library is not there.
        Failed
            An error there, an end of the process, or TIME_BOX over.
        """
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name}: expected an answer to {do}, got an end of the process") from None
        if not select.select([self._process.stdout], [], [], TIME_BOX)[0]:
            self._process.kill()
            raise Failed(f"{self.name}: expected an answer to {do} within {TIME_BOX} s, got none")
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the process ended with status {self._process.wait()}"}
        if "absent" in answer:
            raise Absent(f"{self.name}: {answer['absent']}")
        if "error" in answer:
            raise Failed(f"{self.name}: expected an answer to {do}, got {answer['error']}")
        return answer
