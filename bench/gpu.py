# SPDX-License-Identifier: Apache-2.0
"""What needs a GPU, on the machine that has one: `python bench/gpu.py test` builds there and runs the suite.

    test        build, then every test with the device "cuda"
    sanitize    build, then the kernel tests under compute-sanitizer: memcheck, racecheck, initcheck, synccheck

Needs nvcc, CMake and ninja, and no network: Python packages that are missing are installed from the wheels in `.whl/`
(pybind11, numpy, pytest). The report is written as it grows, so it is there even when the run is stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD, SITE, WHEELS = ROOT / "build" / "gpu", ROOT / "build" / "gpu-site", ROOT / ".whl"
PACKAGES = ("pybind11", "numpy", "pytest")
SECONDS = 540  # of a part
TAIL = 6000  # characters kept of a step's output
KERNEL_TESTS = ("product", "pointwise", "norm_kernels", "loss_kernels", "update_kernels", "gather", "pack")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


class Report:
    """Facts and steps of a run, in a file that is whole at any time."""

    def __init__(self, path: Path, **facts):
        self.path, self.content = path, {**facts, "state": "running", "steps": []}
        self.write()

    def write(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.content, indent=1) + "\n")
        new.replace(self.path)

    def step(self, name: str, command: list, seconds: float) -> bool:
        """Run a command of at most so many seconds; did it succeed?"""
        entry = {"name": name, "command": " ".join(map(str, command)), "state": "running"}
        self.content["steps"].append(entry)
        self.write()
        begin = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, seconds), env=environment())
            entry |= {"state": "passed" if done.returncode == 0 else "failed", "output": (done.stdout + done.stderr)[-TAIL:]}
        except subprocess.TimeoutExpired as stopped:
            entry |= {"state": "stopped", "output": (stopped.stdout or b"").decode(errors="replace")[-TAIL:]}
        except OSError as error:
            entry |= {"state": "failed", "output": str(error)}
        entry["seconds"] = round(time.monotonic() - begin, 1)
        self.write()
        print(f"{name}: {entry['state']} after {entry['seconds']} s", flush=True)
        return entry["state"] == "passed"

    def finish(self, passed: bool) -> int:
        self.content["state"] = "passed" if passed else "failed"
        self.write()
        return 0 if passed else 1


def environment() -> dict:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "python"), str(SITE)))}


def asked(*command: str) -> str:
    """The output of a command, or why there is none."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30).stdout.strip()
    except OSError as error:
        return str(error)


def importable(package: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {package}"], env=environment(), capture_output=True).returncode == 0


def build(report: Report, deadline: float) -> bool:
    """The extension with CUDA, beside the Python package."""
    left = lambda: deadline - time.monotonic()  # noqa: E731
    missing = [p for p in PACKAGES if not importable(p)]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", f"--find-links={WHEELS}", f"--target={SITE}"]
    if missing and not report.step("packages", [*install, *missing], left()):
        return False
    config = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], env=environment(), capture_output=True, text=True
    ).stdout.strip()
    configure = ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DDLCORE_CUDA=ON",
                 f"-Dpybind11_DIR={config}", f"-DPython_EXECUTABLE={sys.executable}"]  # fmt: skip
    if not report.step("configure", configure, left()) or not report.step("build", ["ninja", "-C", BUILD], left()):
        return False
    for module in BUILD.glob("_core*.so"):
        shutil.copy(module, ROOT / "python" / "dlcore")
    return True


def test(report: Report, deadline: float) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", "--durations=10"]
    return report.step("test", command, deadline - time.monotonic())


def sanitize(report: Report, deadline: float) -> bool:
    files = [f"tests/test_{name}.py" for name in KERNEL_TESTS]
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda", *files]
    each = (deadline - time.monotonic()) / len(TOOLS)
    results = [
        report.step(tool, ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *pytest], each) for tool in TOOLS
    ]
    return all(results)


PARTS = {"test": test, "sanitize": sanitize}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the report")
    options = parser.parse_args(argv)
    deadline = time.monotonic() + SECONDS
    options.out.mkdir(parents=True, exist_ok=True)
    report = Report(
        options.out / f"{time.strftime('%Y-%m-%d')}_gpu_{options.part}.json",
        command=f"python bench/gpu.py {options.part}", commit=asked("git", "rev-parse", "--short", "HEAD"),
        gpu=asked("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"),
        nvcc=asked("nvcc", "--version")[-120:],
    )  # fmt: skip
    return report.finish(build(report, deadline) and PARTS[options.part](report, deadline))


if __name__ == "__main__":
    sys.exit(main())
