# SPDX-License-Identifier: Apache-2.0
"""One contestant in its own process: ``worker.py NAME THREADS``, a JSON request on each line of standard input.

hello -> version, precision; supports -> ok; check -> losses of a few steps without dropout; setup, then round ->
seconds of a step. What a library prints goes to standard error.
"""

import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import workloads as W  # noqa: E402
from contestants import REGISTRY  # noqa: E402


class Worker:
    """The contestant, and the timer of its steps."""

    def __init__(self, name: str, threads: int):
        self.cls, self.threads, self.timer = REGISTRY[name].load(), threads, None

    def hello(self) -> dict:
        return {"version": self.cls(self.threads).version(), "precision": self.cls.precision}

    def supports(self, workload: str) -> dict:
        return {"ok": bool(self.cls.supports(W.find(workload)))}

    def check(self, workload: str, steps: int) -> dict:
        w = W.find(workload)
        contestant = self._built(w, w.lr, dropout=False)
        losses = []
        for _ in range(steps):
            contestant.step()
            losses.append(contestant.loss())
        return {"losses": losses}

    def setup(self, workload: str) -> dict:
        contestant = self._built(W.find(workload), W.TIMING_LR, dropout=True)

        def steps(times: int) -> None:
            for _ in range(times):
                contestant.step()

        self.timer = W.timing.Timer(steps)
        return {}

    def round(self, seconds: float) -> dict:
        return {"seconds": self.timer(seconds)}

    def _built(self, w, lr: float, dropout: bool):
        contestant = self.cls(self.threads)
        contestant.build(w, W.parameters(w), *W.batch(w), lr, dropout)
        return contestant


def answer(worker: Worker, request: dict) -> dict:
    """The result of the method that the request names, or the error in one line."""
    try:
        return getattr(worker, request.pop("do"))(**request)
    except Exception as error:
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}


def main() -> None:
    """Answer until standard input ends."""
    worker, failure = None, {}
    try:
        worker = Worker(sys.argv[1], int(sys.argv[2]))
    except ImportError as error:
        failure = {"error": f"not installed: {error}"}
    for line in sys.stdin:
        print(json.dumps(failure or answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
