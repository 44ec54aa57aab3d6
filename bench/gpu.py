# SPDX-License-Identifier: Apache-2.0
"""What needs a GPU, on the machine that has one: `python bench/gpu.py all` builds there and goes through the parts.

    build       the extension with CUDA, into python/dlcore/
    test        every test with the device "cuda"
    memcheck, racecheck, initcheck, synccheck
                the kernel tests under compute-sanitizer, file by file
    ops, step   each kernel and each training step, fused beside naive (bench/run.py)
    peers       training steps and single ops beside other libraries (bench/peers.py)

A part is a list of steps; its report is written as it grows, and a run goes on where the last one of the same sources
has stopped, so `--budget SECONDS` and as many calls as it takes come to the same. Needs nvcc, CMake and ninja, and no
network: Python packages that are missing are installed from the wheels in `.whl/` (pybind11, numpy, pytest).
`--device emulated` tries it without a GPU, with a build that has the emulator.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
BUILD, SITE, WHEELS = ROOT / "build" / "gpu", ROOT / "build" / "gpu-site", ROOT / ".whl"
PACKAGES = ("pybind11", "numpy", "pytest", "threadpoolctl")
SECONDS, STEP_SECONDS, LEAST_SECONDS = 540, 240, 3  # of a part, of a step; with less left none begins
TAIL = 6000  # characters kept of a step's output
ANSWER_SECONDS = 120  # of one answer of a peer: one that compiles for longer must not take the others' time
KERNEL_TESTS = ("product", "pointwise", "norm_kernels", "loss_kernels", "update_kernels", "gather", "pack")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ROUNDS = 5


class Report:
    """Facts and steps of a part, in a file that is whole at any time.

    Parameters
    ----------
    path : Path
    earlier : Path, optional
        A report to go on from, if it is of the same sources: what has passed there is not run again.
    """

    def __init__(self, path: Path, earlier: Path | None = None, **facts):
        self.path, self.content = path, {**facts, "state": "running", "steps": []}
        self.deadline, self.case, known = time.monotonic() + SECONDS, "", {}
        for file in (earlier, path):
            before = json.loads(file.read_text()) if file and file.exists() else {}
            if before.get("sources") == facts.get("sources"):
                known |= {step["name"]: step for step in before.get("steps", ())}
        self.content["steps"] = list(known.values())
        self.write()

    def write(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.content, indent=1) + "\n")
        new.replace(self.path)

    def step(
        self, name: str, command: list, seconds: float = STEP_SECONDS, again: bool = False, result: Path | None = None
    ) -> bool:
        """Run a command of at most so many seconds; did it succeed? The JSON that it prints is kept as its result, or
        what it has written to the file ``result`` until then.

        ``again``: also where it has passed before, for what leaves something behind.
        """
        before = self.before(name)
        if before and before["state"] == "passed" and not again:
            return True
        left, others = self.deadline - time.monotonic(), [step for step in self.content["steps"] if step is not before]
        if left < LEAST_SECONDS:
            self.content["steps"] = [*others, before or {"name": name, "state": "not begun"}]
            self.write()
            return False
        entry = {"name": name, "command": " ".join(map(str, command)), "state": "running"}
        self.content["steps"] = [*others, entry]
        self.write()
        begin = time.monotonic()
        state, printed = _ran([*map(str, command)], min(seconds, left))
        entry |= {"state": state, **printed, "seconds": round(time.monotonic() - begin, 1)}
        if result and result.exists():
            entry["result"] = json.loads(result.read_text())
        self.write()
        print(f"{name}: {entry['state']} after {entry['seconds']} s", flush=True)
        return state == "passed"

    def before(self, name: str) -> dict | None:
        """What is known of a step."""
        return next((step for step in self.content["steps"] if step["name"] == name), None)

    def finish(self, passed: bool) -> bool:
        self.content["state"] = "passed" if passed else "failed"
        self.write()
        return passed


def _ran(command: list[str], limit: float) -> tuple[str, dict]:
    """The state of a command and what it has printed; at the limit it ends with all that it has started."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), process_group=0, **pipes)
    except OSError as error:
        return "failed", {"output": str(error)}
    with process:
        try:
            out, err = process.communicate(timeout=limit)
        except BaseException as stopped:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(stopped, subprocess.TimeoutExpired):
                raise
            out, err = process.communicate()
            return "stopped", {"output": (out + err)[-TAIL:]}
    state = "passed" if process.returncode == 0 else "failed"
    try:
        return state, {"result": json.loads(out), **({"output": err[-TAIL:]} if process.returncode else {})}
    except ValueError:
        return state, {"output": (out + err)[-TAIL:]}


def environment() -> dict:
    """Where the extension that was built here is found first; without one, an installed package."""
    built = [ROOT / "python"] if list(ROOT.glob("python/dlcore/_core*.so")) else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*built, os.environ.get("PYTHONPATH", ""), SITE)))}


def asked(*command: str) -> str:
    """The output of a command, or why there is none."""
    try:
        done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment())
        return done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def importable(package: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {package}"], env=environment(), capture_output=True).returncode == 0


def sources() -> str:
    """A digest of what is built and run."""
    digest = hashlib.sha256()
    for folder in ("csrc", "cmake", "python", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".cpp", ".h", ".cu", ".cuh", ".py", ".cmake"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(report: Report, device: str) -> bool:
    """The extension with CUDA, beside the Python package; there is nothing to do for the emulator."""
    if device != "cuda":
        return True
    missing = [p for p in PACKAGES if not importable(p)]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", f"--find-links={WHEELS}", f"--target={SITE}"]
    if missing and not report.step("packages", [*install, *missing], again=True):
        return False
    config = asked(sys.executable, "-m", "pybind11", "--cmakedir")
    configure = ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DDLCORE_CUDA=ON",
                 f"-Dpybind11_DIR={config}", f"-DPython_EXECUTABLE={sys.executable}"]  # fmt: skip
    made = report.step("configure", configure, again=True) and report.step("build", ["ninja", "-C", BUILD], SECONDS, again=True)
    for module in BUILD.glob("_core*.so") if made else ():
        shutil.copy(module, ROOT / "python" / "dlcore")
    return made


def test(report: Report, device: str) -> bool:
    return report.step("test", [*PYTEST, "-k", device, "--durations=10"], SECONDS)


def sanitize(tool: str):
    """The part of one of the sanitizer's tools."""

    def part(report: Report, device: str) -> bool:
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *PYTEST, "-x", "-k", device]
        return all([report.step(f"{tool} {name}", [*command, f"tests/test_{name}.py"]) for name in KERNEL_TESTS])

    return part


def bench(group: str):
    """A step for every case of a group."""

    def part(report: Report, device: str) -> bool:
        run = [sys.executable, "bench/run.py"]
        cases = [case for case in asked(*run, group, "--list").split() if case.startswith(report.case)]
        options = ["--device", device, "--rounds", ROUNDS, "--json"]
        return bool(cases) and all([report.step(case, [*run, group, "--case", case, *options]) for case in cases])

    return part


def peers(report: Report, device: str) -> bool:
    """Training steps, then ops: a process a contestant for all of them, and the results written one by one, so that what is
    stopped goes on behind the last one."""

    def step(action: str) -> bool:
        out = report.path.resolve().with_name(f"{report.path.stem}_{action}_{report.case or 'all'}.json")
        before = report.before(action)
        if before is None:  # of other sources
            out.unlink(missing_ok=True)
        elif "result" in before and not out.exists():
            out.write_text(json.dumps(before["result"]))
        command = [sys.executable, "bench/peers.py", action, "--device", device, "--rounds", ROUNDS]
        asked = ["--workloads", report.case] if report.case else []
        return report.step(action, [*command, "--limit", ANSWER_SECONDS, "--out", out, *asked], SECONDS, result=out)

    nets = not report.case or report.case.startswith("W")
    return all([step(action) for action, wanted in (("train", nets), ("ops", not report.case or not nets)) if wanted])


PYTEST = [sys.executable, "-m", "pytest", "-q"]
PARTS = {"build": build, "test": test, **{tool: sanitize(tool) for tool in TOOLS}, "ops": bench("ops"), "step": bench("step"),
         "peers": peers}  # fmt: skip


def run(name: str, options) -> bool:
    """One part, after the build that it needs, once for all parts; its report is of the day, the device and the part."""
    name_of_file = f"{time.strftime('%Y-%m-%d')}_{options.device}_{name}.json"
    report = Report(
        options.out / name_of_file, RESULTS / name_of_file, sources=sources(),
        command=f"python bench/gpu.py {name}", commit=asked("git", "rev-parse", "--short", "HEAD"),
        gpu=asked("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,clocks.sm,clocks.mem", "--format=csv,noheader"),
        nvcc=asked("nvcc", "--version")[-120:],
    )  # fmt: skip
    report.deadline, report.case = min(report.deadline, options.deadline), options.case
    options.built = options.built or build(report, options.device)
    return report.finish(options.built and (name == "build" or PARTS[name](report, options.device)))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--budget", type=float, default=3600, metavar="SECONDS", help="of all parts together (default 3600)")
    parser.add_argument("--case", default="", metavar="NAME", help="only cases, nets and ops whose names begin like this")
    parser.add_argument("--device", default="cuda", choices=["cuda", "emulated"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the reports")
    options = parser.parse_args(argv)
    options.deadline, options.built = time.monotonic() + options.budget, False
    options.out.mkdir(parents=True, exist_ok=True)
    passed = True
    for name in PARTS if options.part == "all" else [options.part]:
        if time.monotonic() < options.deadline:
            passed = run(name, options) and passed
        else:
            print(f"{name}: not begun, the budget is spent; the same command goes on from here", flush=True)
            passed = False
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
