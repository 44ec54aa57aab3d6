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
        self.deadline, self.case, self._passed = time.monotonic() + SECONDS, "", {}
        for known in (path, earlier):
            before = json.loads(known.read_text()) if known and known.exists() else {}
            if before.get("sources") == facts.get("sources"):
                self._passed |= {step["name"]: step for step in before.get("steps", ()) if step["state"] == "passed"}
        self.write()

    def write(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.content, indent=1) + "\n")
        new.replace(self.path)

    def step(self, name: str, command: list, seconds: float = STEP_SECONDS, again: bool = False) -> bool:
        """Run a command of at most so many seconds; did it succeed? The JSON that it prints is kept as its result.

        ``again``: also where it has passed before, for what leaves something behind.
        """
        if name in self._passed and not again:
            self.content["steps"].append(self._passed[name])
            self.write()
            return True
        entry = {"name": name, "command": " ".join(map(str, command)), "state": "running"}
        self.content["steps"].append(entry)
        self.write()
        begin = time.monotonic()
        try:
            limit = min(seconds, self.deadline - begin)
            if self.deadline - begin < LEAST_SECONDS:
                raise subprocess.TimeoutExpired(command, limit)
            done = subprocess.run(
                [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=limit, env=environment()
            )
            entry |= {"state": "passed" if done.returncode == 0 else "failed", **_printed(done)}
        except subprocess.TimeoutExpired as stopped:
            entry |= {"state": "stopped", "output": (stopped.stdout or b"").decode(errors="replace")[-TAIL:]}
        except OSError as error:
            entry |= {"state": "failed", "output": str(error)}
        entry["seconds"] = round(time.monotonic() - begin, 1)
        self.write()
        print(f"{name}: {entry['state']} after {entry['seconds']} s", flush=True)
        return entry["state"] == "passed"

    def finish(self, passed: bool) -> bool:
        self.content["state"] = "passed" if passed else "failed"
        self.write()
        return passed


def _printed(done: subprocess.CompletedProcess) -> dict:
    try:
        return {"result": json.loads(done.stdout)}
    except ValueError:
        return {"output": (done.stdout + done.stderr)[-TAIL:]}


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
        cases = asked(*run, group, "--list").split()
        options = ["--device", device, "--rounds", ROUNDS, "--json"]
        return all(
            [report.step(case, [*run, group, "--case", case, *options]) for case in cases if case.startswith(report.case)]
        )

    return part


def peers(report: Report, device: str) -> bool:
    """A step for every net, and for every op that has a peer."""
    names = "import sys; sys.path.insert(0, 'bench'); import peers; print(*peers.WORKLOADS); print(*peers.OPS)"
    nets, ops = (line.split() for line in asked(sys.executable, "-c", names).splitlines())
    run, options = [sys.executable, "bench/peers.py"], ["--device", device, "--rounds", ROUNDS, "--json"]
    items = [("train", net) for net in nets] + [("ops", op) for op in ops]
    return all([
        report.step(f"{what} {item}", [*run, what, "--workloads", item, *options])
        for what, item in items
        if item.startswith(report.case)
    ])  # fmt: skip


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
