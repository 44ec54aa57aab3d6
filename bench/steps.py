# SPDX-License-Identifier: Apache-2.0
"""Steps of bench/gpu.py: commands with limits, in a report that is whole at any time and is gone on from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from progress import ended

ROOT = Path(__file__).resolve().parents[1]
RESULTS, WORK, SITE = ROOT / "bench" / "results", ROOT / "build" / "gpu-run", ROOT / "build" / "gpu-site"
STEP_SECONDS, LEAST_SECONDS, LAST_SECONDS = 240, 3, 10  # of a step; with less left none begins, and no test
TAIL = 6000  # characters kept of a step's output
END = ("passed", "failed", "stopped")  # states that are final; "cut" is a step that had less than its time
PRODUCT = ("csrc", "cmake", "python", "CMakeLists.txt", "pyproject.toml")
DRIVER = ("gpu.py", "steps.py", "progress.py")  # what they do shows in the commands of the steps


class Report:
    """Facts and steps, in one file that is whole at any time.

    It goes on in the newest report of the device whose steps are of the same sources, wherever that lies: what has ended
    there is not run again.

    Parameters
    ----------
    folder : Path
        Where it is written; a copy lies in ``build/gpu-run``.
    device : str
    budget : float
        Seconds from now on.
    again : bool, optional
        What has failed or was stopped runs again.
    **facts
    """

    def __init__(self, folder: Path, device: str, budget: float, again: bool = False, **facts):
        self.again, self.ended, self.waiting, self.part, self.sources = again, set(), set(), "", ""
        self.end = self.deadline = time.monotonic() + budget
        self.digests = {name: sources(name) for name in ("tests", "bench")}
        found = [(json.loads(p.read_text()), p.name) for d in (RESULTS, WORK, folder) for p in d.glob(f"*_{device}_gpu.json")]
        for before, _ in found:
            before["steps"] = [s for s in before["steps"] if s["sources"] in self.digests.values()]
        none = {"steps": [], "commit": ""}, f"{time.strftime('%Y-%m-%d', time.gmtime())}_{device}_gpu.json"
        before, name = max((f for f in found if f[0]["steps"]), key=lambda f: f[0]["written"], default=none)
        self.paths = [WORK / name, folder / name]
        self.content = {**facts, "commit": facts.get("commit") or before["commit"], "written": "", "steps": before["steps"]}
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self) -> None:
        self.content["written"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for path in self.paths:
            new = path.with_suffix(".new")
            new.write_text(json.dumps(self.content, indent=1) + "\n")
            new.replace(path)

    def begin(self, part: str, about: str, seconds: float) -> None:
        """What follows is of a part, which may take so many seconds of all runs together."""
        spent = sum(s.get("seconds", 0) for s in self.content["steps"] if s["part"] == part)
        self.part, self.sources = part, self.digests[about]
        self.waiting.discard(part)
        self.deadline = min(self.end, time.monotonic() + seconds - spent)

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def wait(self) -> bool:
        """Something of the part is left for the next run."""
        self.waiting.add(self.part)
        return False

    def before(self, name: str) -> dict | None:
        """What is known of a step."""
        return next((s for s in self.content["steps"] if (s["name"], s["sources"]) == (name, self.sources)), None)

    def is_over(self, step: dict | None) -> bool:
        again = self.again and step and step["name"] not in self.ended
        return bool(step) and (step["state"] == "passed" or (step["state"] in END and not again))

    def put(self, entry: dict) -> dict:
        """A step, in the place of what was known of it."""
        entry = {"name": entry["name"], "part": self.part, "sources": self.sources, **entry}
        self.content["steps"] = [s for s in self.content["steps"] if s["name"] != entry["name"]] + [entry]
        if entry["state"] in END:
            self.ended.add(entry["name"])
        self.write()
        return entry

    def step(
        self, name: str, command: list, seconds: float = STEP_SECONDS, always: bool = False, result: Path | None = None
    ) -> bool:
        """Run a command of at most so many seconds; did it succeed? The JSON that it prints is kept as its result, or
        what it has written to the file ``result`` until then.

        ``always``: also where it has ended before, for what leaves something behind.
        """
        before = self.before(name)
        if self.is_over(before) and not always:
            return before["state"] == "passed"
        if self.left < LEAST_SECONDS:
            return self.wait()
        spent = before.get("seconds", 0) if before else 0
        entry = self.put({"name": name, "command": " ".join(map(str, command)), "state": "running", "seconds": spent})
        limit = min(seconds, self.left)
        state, printed, took = ran([*map(str, command)], limit)
        entry |= {"state": "cut" if state == "stopped" and limit < seconds else state, **printed}
        entry["seconds"] = round(spent + took, 1)
        if result and result.exists():
            entry["result"] = json.loads(result.read_text())
        self.put(entry)
        if entry["state"] == "cut":
            self.wait()
        print(f"{name}: {entry['state']} after {entry['seconds']} s", flush=True)
        return entry["state"] == "passed"

    def tests(self, name: str, command: list, seconds: float, hang: float, log: Path | None = None) -> bool:
        """A step of tests with the plugin progress, each of which runs once: behind one that hangs or ends the process, others
        go on in a new one; behind the last that there is time for, in the next run.

        Parameters
        ----------
        name : str
        command : list
        seconds, hang : float
            Of this step in this run, and of one test.
        log : Path, optional
            What a sanitizer writes; a fault in it is a failure too.
        """
        before = self.before(name) or {"state": "cut"}
        if self.is_over(before):
            return before["state"] == "passed"
        known = {} if before["state"] in END else before
        if self.left < LEAST_SECONDS:
            return self.wait()
        entry = {"name": name, "tests": {}, "faults": "", "seconds": 0, **known, "state": "cut"}
        end = time.monotonic() + seconds
        while entry["state"] == "cut" and (limit := min(self.left, end - time.monotonic())) > LEAST_SECONDS:
            entry = self._some_tests(entry, command, limit, hang, log)
        if entry["state"] == "cut":
            self.wait()
        print(f"{name}: {entry['state']} after {entry['seconds']} s, {counted(entry['tests'])}", flush=True)
        return entry["state"] == "passed"

    def _some_tests(self, entry: dict, command: list, limit: float, hang: float, log: Path | None) -> dict:
        """The step after one process, which is cut where some are left to run."""
        progress = WORK / f"{re.sub('[^a-z0-9]+', '_', entry['name'])}.jsonl"
        progress.write_text("".join(json.dumps({"test": test, **line}) + "\n" for test, line in entry["tests"].items()))
        options = [f"--progress={progress}", f"--until={max(0, limit - LAST_SECONDS):.0f}", f"--hang={hang:g}"]
        if log:
            log.unlink(missing_ok=True)
        self.put({**entry, "state": "running", "command": " ".join(map(str, [*command, *options]))})
        state, printed, seconds = ran([*map(str, command), *options], limit)
        tests, left = ended(progress)
        for test in [test for test, line in tests.items() if line["state"] == "running"]:
            how = "hung" if "Timeout (" in printed["output"] else "crashed"
            output = printed["output"]
            trace = output.find("(most recent call first)")  # where it was comes first there, what it ran in last
            tests[test] |= {"state": how, "why": output[trace:][: TAIL // 2] if trace >= 0 else output[-TAIL // 2 :]}
            if state == "stopped":  # by us, before it has had its time
                del tests[test]
        found, over = faults(log), left == 0 or (left is None and len(tests) == len(entry["tests"]))
        new = [line["state"] for test, line in tests.items() if test not in entry["tests"]]
        if state == "failed" and over and not found and not set(new) - {"passed", "skipped"}:
            found = "the process failed, and no test of it"
        entry |= {"tests": tests, "faults": (entry["faults"] + found)[:TAIL], **printed}
        entry["seconds"] = round(entry["seconds"] + seconds, 1)
        sound = tests and not entry["faults"] and {line["state"] for line in tests.values()} <= {"passed", "skipped"}
        entry["state"] = "cut" if not over or state == "stopped" else "passed" if sound else "failed"
        return self.put(entry)


def counted(tests: dict) -> str:
    """How many tests ended in each way, and the names of those that did not pass."""
    states = [line["state"] for line in tests.values()]
    said = [f"{states.count(state)} {state}" for state in sorted(set(states))]
    return ", ".join(said or ["no test"]) + "".join(
        f"\n    {line['state']}: {test}" for test, line in tests.items() if line["state"] not in ("passed", "skipped")
    )


HARMLESS = re.compile(r"=+ *(COMPUTE-SANITIZER|.*SUMMARY: 0 |Target application returned|$)")


def faults(log: Path | None) -> str:
    """What a sanitizer has found."""
    lines = log.read_text(errors="replace").splitlines() if log and log.exists() else []
    return "\n".join(line for line in lines if line.startswith("=====") and not HARMLESS.match(line))


def ran(command: list[str], limit: float) -> tuple[str, dict, float]:
    """State, output and seconds of a command; at the limit all that it has started ends, or is left to itself."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(command, cwd=ROOT, env=environment(), process_group=0, stdout=out, stderr=err)
        except OSError as error:
            return "failed", {"output": str(error)}, 0
        try:
            status = process.wait(limit)
        except BaseException as stopped:
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LAST_SECONDS)
            if not isinstance(stopped, subprocess.TimeoutExpired):
                raise
            status = None
        out.seek(0), err.seek(0)
        printed = {"out": out.read(), "err": err.read()}
    state = "stopped" if status is None else "failed" if status else "passed"
    return state, outcome(state, **printed), round(time.monotonic() - begin, 1)


def outcome(state: str, out: str, err: str) -> dict:
    """The JSON that a command has printed as its result, else the end of all that it has."""
    if state != "stopped":
        with contextlib.suppress(ValueError):
            return {"result": json.loads(out), "output": err[-TAIL:] if state == "failed" else ""}
    return {"output": (out + err)[-TAIL:]}


def environment() -> dict:
    """Where the extension that was built here is found first; without one, an installed package."""
    built = [ROOT / "python"] if list(ROOT.glob("python/dlcore/_core*.so")) else []
    python = (*built, os.environ.get("PYTHONPATH", ""), SITE, ROOT / "bench")
    programs = (os.environ.get("PATH", ""), "/usr/local/cuda/bin")
    paths = {name: os.pathsep.join(map(str, found)) for name, found in (("PYTHONPATH", python), ("PATH", programs))}
    return {**os.environ, **paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def sources(about: str) -> str:
    """A digest of what is built, and of the tests or benches that run on it."""
    digest = hashlib.sha256()
    for name in (*PRODUCT, about):
        for path in sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]:
            if path.suffix in (".cpp", ".h", ".cu", ".cuh", ".py", ".cmake", ".txt", ".toml") and path.name not in DRIVER:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
