# SPDX-License-Identifier: Apache-2.0
"""The driver's end of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from contestants import ISAS, entry

WORKER = Path(__file__).with_name("worker.py")
TIME_BOX = 600  # seconds of one request
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failed(RuntimeError):
    """A contestant that cannot go on."""


class Absent(Failed):
    """A contestant whose library is not installed."""


class Process:
    """A contestant in a process of its own.

    Parameters
    ----------
    name : str
    threads : int
    device : str
    limit : float
        Seconds of one request.
    isa : str
        The instruction set that its library is held to; "": the best.
    """

    def __init__(self, name: str, threads: int, device: str = "cpu", limit: float = TIME_BOX, isa: str = ""):
        self.name, self.broken, self._limit = name, False, limit
        held = dict.fromkeys(POOLS, str(threads)) | ISAS.get(isa, {})
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), name, str(threads), device], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, bufsize=1, env={**os.environ, **held, **entry(name, device).environment},
        )  # fmt: skip

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def send(self, do: str, **arguments) -> None:
        """Begin a request; an end of the process is told by `answer`."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()

    def answer(self, do: str) -> dict:
        """What comes back of the request.

        Raises
        ------
        Absent
            Its library is not there.
        Failed
            An error there, an end of the process, or the limit over.
        """
        try:
            return self._answer(do)
        except Failed:
            self.broken = True
            raise

    def _answer(self, do: str) -> dict:
        if not select.select([self._process.stdout], [], [], self._limit)[0]:
            self._process.kill()
            raise Failed(f"{self.name}: expected an answer to {do} within {self._limit:g} s, got none")
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"an end of the process with status {self._process.wait()}"}
        if "absent" in answer:
            raise Absent(f"{self.name}: {answer['absent']}")
        if "error" in answer:
            raise Failed(f"{self.name}: expected an answer to {do}, got {answer['error']}")
        return answer

    def ask(self, do: str, **arguments) -> dict:
        """One request and its answer."""
        self.send(do, **arguments)
        return self.answer(do)


class Pool:
    """Processes of contestants. On the CPU each lives for one `started`, so that its memory is that of one item; on a GPU,
    whose libraries take long to begin, as long as it answers.

    Parameters
    ----------
    threads : int
    device : str
    limit : float
        Seconds of one request.
    isa : str
        The instruction set that libraries are held to; "": the best.
    """

    def __init__(self, threads: int, device: str = "cpu", limit: float = TIME_BOX, isa: str = ""):
        self.threads, self.device, self._limit, self._isa = threads, device, limit, isa
        self._kept: dict[str, Process] = {}

    @contextlib.contextmanager
    def started(self, names: Iterable[str]) -> Iterator[dict[str, Process]]:
        """Processes by name; who uses them may take some out."""
        used = {name: self._kept.pop(name, None) or self._process(name) for name in names}
        try:
            yield dict(used)
        finally:
            for name, process in used.items():
                if self.device == "cpu" or process.broken:
                    process.close()
                else:
                    self._kept[name] = process

    def _process(self, name: str) -> Process:
        return Process(name, self.threads, self.device, self._limit, self._isa)

    def close(self) -> None:
        """End what is kept."""
        for process in self._kept.values():
            process.close()
        self._kept.clear()


def ask_all(processes: dict[str, Process], wrong: list[str], about: str, do: str, **arguments) -> dict[str, dict]:
    """The answers of those that can, who work at once; the others are taken out, their errors added to ``wrong``."""
    for process in processes.values():
        process.send(do, **arguments)
    answers = {name: _answer(processes, wrong, about, name, do) for name in list(processes)}
    return {name: answers[name] for name in processes}


def ask_one(processes: dict[str, Process], wrong: list[str], about: str, name: str, do: str, **arguments) -> dict:
    """The answer of one, as `ask_all` treats it; {} where there is none."""
    processes[name].send(do, **arguments)
    return _answer(processes, wrong, about, name, do)


def _answer(processes: dict[str, Process], wrong: list[str], about: str, name: str, do: str) -> dict:
    try:
        return processes[name].answer(do)
    except Failed as error:
        del processes[name]
        wrong.append(f"{about} {error}")
        return {}
