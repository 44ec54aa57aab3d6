# SPDX-License-Identifier: Apache-2.0
"""What needs a GPU, on the machine that has one: `python bench/gpu.py all` builds there and goes through the parts.

Where a command may take 600 seconds, the same line again and again until it says `all: passed` or `all: failed`:

    python bench/gpu.py all --out FOLDER --commit abc1234

Each call ends before `--budget` seconds (560 unless told otherwise) and leaves one file, DATE_cuda_gpu.json, in FOLDER. The
next one goes on from there: from FOLDER, from build/gpu-run/ on the same machine, or from bench/results/, where the file is
to lie when the machine is another one. What has ended is not run again while its sources are the same; `--again` repeats what
failed.

    build       the extension with CUDA, into python/dlcore/
    test        every test that needs a GPU: a step a file, products by wgmma last
    launches    every kernel once, at small shapes, under memcheck and racecheck
    headline    training steps of two nets beside other libraries (bench/peers.py)
    ops, step   each kernel and each training step, fused beside naive (bench/run.py)
    peers       all nets and single ops beside other libraries
    memcheck, racecheck, initcheck, synccheck
                the tests of kernels and nets under compute-sanitizer

In `all` the first parts have a share of the time each, so that the headline is there within 25 minutes; what they left is
done behind it. Needs nvcc, CMake and ninja, and no network: Python packages that are missing or too old are installed from
the wheels in `.whl/` (pybind11, numpy, pytest). `--device emulated` tries it without a GPU, with a build that has the emulator.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from progress import ended
from steps import LEAST_SECONDS, RESULTS, ROOT, SITE, STEP_SECONDS, WORK, Report, environment, ran

BUILD, WHEELS = ROOT / "build" / "gpu", ROOT / ".whl"
PACKAGES = {"pybind11": 3, "numpy": 2, "pytest": 8, "threadpoolctl": 3}  # and the least version
SECONDS, BUDGET = 540, 560  # of a long step; of a call
ANSWER_SECONDS = 120  # of one answer of a peer: one that compiles for longer must not take the others' time
ROUNDS = 5
PYTEST = [sys.executable, "-m", "pytest", "-v", "-W", "default", "-p", "no:cacheprovider", "-p", "progress",
          "--continue-on-collection-errors", "--durations=10"]  # fmt: skip
# The order of the tests: what everything else is made of, what is not named here, and last what may hang.
FIRST = ("product", "pointwise", "norm_kernels", "loss_kernels", "update_kernels", "gather", "pack")
LAST = ("cublaslt", "launches", "terms", "mma", "halves", "float16", "copies")
SANITIZED = (*FIRST, "devices", *LAST)
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
HANG, HANG_SANITIZED = 60, 180  # seconds of one test
HEADLINE = "G1,G2"  # nets that launches, and fusion and products decide
# Beside the whole list these start fast enough for the first minutes.
CONTESTANTS = ("dlcore,dlcore_wgmma,dlcore_mma_bf16,dlcore_wgmma_bf16,torch_eager,torch_compile,torch_bf16,torch_compile_bf16,"
               "jax,jax_bf16")  # fmt: skip


def asked(*command) -> str:
    """The output of a command, or why there is none."""
    try:
        done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment())
        return done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def outdated(package: str, least: int) -> bool:
    """Is it missing, or older?"""
    version = f"import importlib.metadata as m, {package}; print(m.version('{package}').split('.')[0])"
    found = asked(sys.executable, "-c", version)
    return not found.isdecimal() or int(found) < least


def build(report: Report, options) -> bool:
    """The extension with CUDA, beside the Python package; there is nothing to do for the emulator."""
    if options.device != "cuda":
        return True
    missing = [f"{package}>={least}" for package, least in PACKAGES.items() if outdated(package, least)]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade",
               f"--find-links={WHEELS}", f"--target={SITE}", *missing]  # fmt: skip
    if missing and not report.step("packages", install, always=True):
        return False
    config = asked(sys.executable, "-m", "pybind11", "--cmakedir")
    configure = ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DDLCORE_CUDA=ON",
                 f"-Dpybind11_DIR={config}", f"-DPython_EXECUTABLE={sys.executable}"]  # fmt: skip
    made = report.step("configure", configure, always=True)
    made = made and report.step("build", ["ninja", "-C", BUILD], SECONDS, always=True)
    for module in BUILD.glob("_core*.so") if made else ():
        shutil.copy(module, ROOT / "python" / "dlcore")
    look = "import json; from dlcore import _core as c; i = c.cuda_info(); print(json.dumps(i)); assert i['available']"
    return made and report.step("device", [sys.executable, "-c", look], always=True)


@cache
def files_with_tests(device: str) -> dict[str, bool]:
    """Names of the files with tests that need a device, in the order to run them; is wgmma among their products?"""
    listed, names = WORK / "collected.jsonl", {}
    WORK.mkdir(parents=True, exist_ok=True)
    listed.unlink(missing_ok=True)
    _, printed, _ = ran([*PYTEST, "--collect-only", "-m", device, f"--progress={listed}"], STEP_SECONDS)
    for test in ended(listed)[0]:
        name = test.partition("::")[0].removeprefix("tests/test_").removesuffix(".py")
        names[name] = names.get(name, False) or "wgmma" in test
    if not names:
        print(f"no test of {device} is collected: {printed['output']}", flush=True)
    place = {name: i - len(FIRST) for i, name in enumerate(FIRST)} | {name: 1 + i for i, name in enumerate(LAST)}
    return dict(sorted(names.items(), key=lambda pair: (place.get(pair[0], 0), pair[0])))


def selections(files: dict[str, bool], case: str) -> list[tuple[str, list]]:
    """(name, arguments of pytest) of steps: files, then their products by wgmma."""
    plain = [(name, ["-k", "not wgmma"] if wgmma else []) for name, wgmma in files.items()]
    last = [(f"{name} wgmma", ["-k", "wgmma"]) for name, wgmma in files.items() if wgmma]
    return [(name, [f"tests/test_{name.split()[0]}.py", *chosen]) for name, chosen in [*plain, *last] if name.startswith(case)]


def test(report: Report, options) -> bool:
    """A step for every file."""
    chosen = selections(files_with_tests(options.device), options.case)
    command = [*PYTEST, "-m", options.device, f"--probe={options.device}"]
    return bool(chosen) and all([report.tests(f"test {name}", [*command, *args], STEP_SECONDS, HANG) for name, args in chosen])


def sanitize(tools, names=SANITIZED):
    """The part of some of the sanitizer's tools, over the tests of some files."""

    def part(report: Report, options) -> bool:
        found = files_with_tests(options.device)
        chosen = selections({name: found[name] for name in names if name in found}, options.case)
        return bool(chosen) and all(
            [_sanitized(report, tool, name, args, options.device) for name, args in chosen for tool in tools]
        )

    return part


def _sanitized(report: Report, tool: str, name: str, args: list, device: str) -> bool:
    log = WORK / "sanitizer.log"
    command = ["env", "DLCORE_TESTS_SMALL=1", "compute-sanitizer", "--tool", tool, "--error-exitcode", "9",
               "--print-limit", "20", "--log-file", log, *PYTEST, "-m", device, f"--probe={device}", *args]  # fmt: skip
    return report.tests(f"{tool} {name}", command, SECONDS, HANG_SANITIZED, log)


def bench(group: str):
    """A step for every case of a group."""

    def part(report: Report, options) -> bool:
        run = [sys.executable, "bench/run.py"]
        cases = [
            case for case in asked(*run, group, "--list", "--device", options.device).split() if case.startswith(options.case)
        ]
        flags = ["--device", options.device, "--rounds", ROUNDS, "--json"]
        return bool(cases) and all([report.step(case, [*run, group, "--case", case, *flags]) for case in cases])

    return part


def compared(report: Report, device: str, name: str, action: str, wanted: str, *more: str) -> bool:
    """Rows beside other libraries: a process a contestant for all of them, and the results written one by one into a file
    of the action, so that what is stopped goes on behind the last one."""
    out = WORK / f"peers_{action}_{report.sources}.json"
    results = [s["result"] for s in report.content["steps"] if s.get("result", {}).get("action") == action]
    if results and not out.exists():
        out.write_text(json.dumps(max(results, key=lambda result: len(result["done"]))))
    command = [sys.executable, "bench/peers.py", action, "--device", device, "--rounds", ROUNDS, "--limit", ANSWER_SECONDS]
    command += ["--out", out, *(["--workloads", wanted] if wanted else []), *more]
    return report.step(name, command, SECONDS, result=out)


def headline(report: Report, options) -> bool:
    chosen = ["--contestants", CONTESTANTS] if options.device == "cuda" else []
    return compared(report, options.device, "headline", "train", HEADLINE, *chosen)


def peers(report: Report, options) -> bool:
    """Training steps, then ops."""
    nets = not options.case or options.case.startswith("W")
    wanted = {"train": nets, "ops": not options.case or not nets}
    return all(
        [
            compared(report, options.device, f"{action} {options.case}".strip(), action, options.case)
            for action in wanted
            if wanted[action]
        ]
    )


# Part, and what its results depend on beside the extension.
PARTS = {
    "build": (build, "tests"), "test": (test, "tests"), "launches": (sanitize(TOOLS[:2], ("launches",)), "tests"),
    "headline": (headline, "bench"), "ops": (bench("ops"), "bench"), "step": (bench("step"), "bench"),
    "peers": (peers, "bench"), **{tool: (sanitize([tool]), "tests") for tool in TOOLS},
}  # fmt: skip
# Seconds of parts before the headline, of all calls together; what they leave is done behind it.
SHARES = {"test": 420, "launches": 300}
ALL = [*((part, SHARES.get(part, SECONDS)) for part in ("test", "launches", "headline")),
       *((part, float("inf")) for part in ("headline", "ops", "step", "test", "launches", "peers", *TOOLS))]  # fmt: skip


def run(report: Report, name: str, options, seconds: float = float("inf")) -> bool:
    """One part; its report is there while it runs."""
    part, about = PARTS[name]
    report.begin(name, about, seconds)
    return part(report, options) if report.left > LEAST_SECONDS else report.wait()


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"of this call (default {BUDGET})")
    parser.add_argument(
        "--case", default="", metavar="NAME", help="only files, cases, nets and ops whose names begin like this"
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "emulated"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--commit", default="", help="that runs, where git cannot tell")
    parser.add_argument("--again", action="store_true", help="also what has failed or was stopped")
    options = parser.parse_args(argv)
    report = Report(
        options.out, options.device, options.budget, options.again,
        commit=options.commit or (asked("git", "describe", "--always", "--dirty") if shutil.which("git") else ""),
        gpu=asked("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,clocks.sm,clocks.mem", "--format=csv,noheader"),
        nvcc=asked("nvcc", "--version")[-120:],
    )  # fmt: skip
    passed = run(report, "build", options)
    if passed and options.part != "build":
        parts = ALL if options.part == "all" else [(options.part, float("inf"))]
        passed = all({name: run(report, name, options, seconds) for name, seconds in parts}.values())
    state = "passed" if passed else "to be gone on with" if report.waiting else "failed"
    print(f"{options.part}: {state}; {report.paths[-1]}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
