# SPDX-License-Identifier: Apache-2.0
"""One contestant in its own process: ``worker.py NAME THREADS DEVICE``, a JSON request on each line of standard input.

hello -> version, precision, how it computes; check -> why it takes no part, or losses, outputs or errors of single ops;
setup, begin a part, then round -> seconds of a call; memory -> the largest resident set. What a library prints goes to
standard error.
"""

import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np  # noqa: E402

import workloads as W  # noqa: E402
from contestants import entry  # noqa: E402

CHECK_ROWS, CHECK_SEED, CALL_SEED = 64, 7, 3


class Worker:
    """The contestant, what it has built, and the timer of its calls."""

    def __init__(self, name: str, threads: int, device: str):
        self.cls, self.threads = entry(name, device).load(), threads

    def hello(self) -> dict:
        contestant = self.cls(self.threads)
        return {"version": contestant.version(), "precision": contestant.precision, "how": contestant.how()}

    def lacks(self, action: str, item: str) -> str:
        """Why the contestant takes no part; "" if it does."""
        if action not in self.cls.actions:
            return f"it has no {action}"
        if action == "ops":
            known = self.cls.kinds is None or W.kernels.KERNELS[item].kind in self.cls.kinds
        else:
            known = self.cls.supports(W.find(item))
        return "" if known else "it cannot express this"

    def check(self, action: str, item: str, steps: int = 0) -> dict:
        reason = self.lacks(action, item)
        return {"reason": reason} if reason else getattr(self, f"_check_{action}")(item, steps)

    def _check_train(self, item: str, steps: int) -> dict:
        w = W.find(item)
        contestant, losses = self._built(w, w.lr, dropout=False), []
        for _ in range(steps):
            contestant.step()
            losses.append(contestant.loss())
        return {"values": losses}

    def _check_infer(self, item: str, _) -> dict:
        w = W.find(item)
        contestant = self._built(w, w.lr, dropout=True)
        outputs = contestant.predictor(W.batch(w, CHECK_ROWS, CHECK_SEED)[0])()
        values = contestant.logits(outputs).astype(np.float64)
        if w.loss == "cross_entropy":  # a constant of each row is no difference between logits
            values -= values.mean(axis=1, keepdims=True)
        return {"values": values.ravel().tolist()}

    def _check_ops(self, item: str, _) -> dict:
        return {"errors": self.cls(self.threads).op_errors(W.kernels.KERNELS[item])}

    def setup(self, action: str, item: str) -> dict:
        """Build the net or the calls of an op; nothing is timed yet. What was built before goes first."""
        self.contestant = self.calls = self.timer = None
        self.copies = 1
        if action == "ops":
            kernel = W.kernels.KERNELS[item]
            self.contestant = self.cls(self.threads)
            self.calls, self.copies = self.contestant.ops(kernel), kernel.copies
        else:
            self.workload = W.find(item)
            self.contestant = self._built(self.workload, W.TIMING_LR, dropout=True)
            self.calls = {"step": self.contestant.step}
        return {}

    def begin(self, part: str) -> dict:
        """Prepare and warm the calls of a part: step, rows to predict, or a part of an op."""
        call = self.calls.get(part) or self.contestant.predictor(W.batch(self.workload, int(part), CALL_SEED)[0])
        self.timer = W.timing.Timer(self.contestant.many(part, call))
        return {}

    def round(self, seconds: float) -> dict:
        return {"seconds": self.timer(seconds) / self.copies}

    def memory(self) -> dict:
        """The kernel's own high-water mark: ru_maxrss would begin with that of the driver, which has made this process."""
        with open("/proc/self/status", encoding="ascii") as lines:
            return {"rss_mb": next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024}

    def _built(self, w, lr: float, dropout: bool):
        contestant = self.cls(self.threads)
        contestant.build(w, W.parameters(w), *W.batch(w), lr, dropout)
        return contestant


def answer(worker: Worker, request: dict) -> dict:
    """The result of the method that the request names, or the error in one line."""
    try:
        return getattr(worker, request.pop("do"))(**request)
    except Exception as error:
        return one_line(error)


def one_line(error: Exception) -> dict:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return {"absent" if isinstance(error, ImportError) else "error": text}


def main() -> None:
    """Answer until standard input ends."""
    worker, failure = None, {}
    try:
        worker = Worker(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    except Exception as error:
        failure = one_line(error)
    for line in sys.stdin:
        print(json.dumps(failure or answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
