# SPDX-License-Identifier: Apache-2.0
"""What nvcc makes of the CUDA kernels: registers, spills, stack and shared memory of each on each architecture, and the
instructions that must, or must not, be in its code.

    python bench/check_archs.py                     every file for every architecture, in a folder that is thrown away
    python bench/check_archs.py --arch 90           one architecture, or a list such as 80,90
    python bench/check_archs.py --built [FILE]      an extension that is built; nothing is compiled, spills show as stack
    python bench/check_archs.py --save              the table, as Markdown and JSON, into bench/results/

Needs cuobjdump and nvdisasm (of the CUDA toolkit, or `pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`); to
compile also nvcc, CMake, ninja and pybind11. Exit status 1 where a kernel breaks a rule: a spill, a stack, wgmma that
ptxas serializes, a line of GREPS, or more registers than bench/registers.json allows (32, 40, 48, 64, 80, 128: above
each, a block of 256 threads fewer fits on a multiprocessor; 168: what threads of wgmma's begin with). Where a
multiprocessor holds fewer than 2048 threads, each may have its share.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS, RESULTS = ROOT / "bench" / "registers.json", ROOT / "bench" / "results"


@dataclass(frozen=True)
class Grep:
    """Instructions of machine code that kernels must have, or must not.

    Attributes
    ----------
    instruction, kernels : str
        Regular expressions, of the beginning of an instruction and of a kernel's whole name.
    present : bool
    archs : str
        Regular expression of the architectures it holds for.
    """

    instruction: str
    kernels: str
    present: bool = True
    archs: str = ".*"


TILES = "(pointwise|gather|softmax|cross_entropy|loss|layer_norm|layer_norm_backward)_kernel|(loss|cross_entropy)_gradient"
THREADS = {"75": 1024, "86": 1536, "89": 1536, "120": 1536}  # that a multiprocessor holds; elsewhere 2048
ROWS = "softmax_rows|layer_norm_statistics|layer_norm_backward_means|loss_rows|cross_entropy_rows"
GREPS = (
    Grep(r"LDG\.E\.128", f"{TILES}|{ROWS}|product_kernel.*|sum_splits|pack_kernel|sum_squares|update_kernel"),
    Grep(r"STG\.E\.128", f"{TILES}|product_kernel.*|sum_splits|pack_kernel|update_kernel"),
    Grep(r"(LD|ST)\.", ".*", present=False),  # of memory whose kind the compiler could not tell
    Grep(r"(ATOM|RED)", ".*", present=False),  # sums would depend on the order of threads
    Grep(r"BAR", ROWS, present=False),  # a warp waits for no other
    Grep(r"HGMMA", "wgmma_kernel.*"),
    Grep(r"UTMALDG\.4D", "wgmma_kernel.*"),
)


@dataclass
class Usage:
    """A kernel on an architecture; bytes of spills are None where only the result is known."""

    kernel: str
    arch: str
    registers: int
    stack: int
    shared: int
    spills: int | None = None
    instructions: Counter = field(default_factory=Counter, repr=False)

    def count(self, grep: Grep) -> int:
        return sum(n for name, n in self.instructions.items() if re.match(grep.instruction, name))


# ---------------------------------------------------------------------------------------------------- reading
@cache
def short(mangled: str) -> str:
    """A kernel's name without its namespaces and arguments, such as ``product_kernel<2, 1>``."""
    name = output("c++filt", mangled).strip()
    name = re.sub(r"\([\w:]+\)(?=\d)", "", name)
    return re.search(r"(\w+(?:<.*>)?)\([^()]*\)$", name)[1]


def from_ptxas(text: str) -> list[Usage]:
    """The kernels of a log of ``ptxas -v``."""
    entry = re.compile(
        r"Compiling entry function '(\w+)' for 'sm_(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads\n.*?Used (\d+) registers([^\n]*)", re.DOTALL
    )  # fmt: skip
    found = []
    for name, arch, stack, stores, loads, registers, rest in entry.findall(text):
        shared = re.search(r"(\d+) bytes smem", rest)
        found.append(Usage(short(name), arch, int(registers), int(stack), int(shared[1]) if shared else 0,
                           int(stores) + int(loads)))  # fmt: skip
    return found


def from_built(text: str) -> list[Usage]:
    """The kernels of ``cuobjdump -res-usage``."""
    found, arch, name = [], "", ""
    for line in text.splitlines():
        if match := re.match(r"arch = sm_(\w+)", line):
            arch = match[1]
        elif match := re.match(r" Function (\w+):", line):
            name = match[1]
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            found.append(Usage(short(name), arch, *map(int, match.groups())))
    return found


def instructions(text: str) -> dict[tuple[str, str], Counter]:
    """Of ``cuobjdump -sass`` by (kernel, architecture) how often each instruction stands there."""
    found, arch, count = {}, "", Counter()
    for line in text.splitlines():
        if match := re.match(r"\s*(?:arch = |code for )sm_(\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function : (\w+)", line):
            count = found.setdefault((short(match[1]), arch), Counter())
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?([A-Z][\w.]*)", line):
            count[match[1]] += 1
    return found


@cache
def special() -> dict[str, str]:
    """The architecture of each kernel whose file is for one kind of GPU, such as wgmma.90a.cu."""
    return {
        name: path.suffixes[-2][1:]
        for path in (ROOT / "csrc" / "cuda").rglob("*.*.cu")
        for name in re.findall(r"__global__[^;{]*?(\w+)\(const Instruction", path.read_text())
    }


def absent(found: list[Usage]) -> set[str]:
    """The special kernels whose architecture was not asked for."""
    archs = {use.arch for use in found}
    return {name for name, arch in special().items() if arch not in archs}


def faults(found: list[Usage], limits: dict[str, int], log: str = "") -> list[str]:
    """What breaks a rule, a line each."""
    wrong = [f"ptxas: {line.strip()}" for line in log.splitlines() if re.search("serializ|warning", line, re.IGNORECASE)]
    for use in found:
        who, limit = f"{use.kernel} on sm_{use.arch}", limits.get(use.kernel)
        if special().get(use.kernel.split("<")[0], use.arch) != use.arch:
            wrong.append(f"{who}: expected it on sm_{special()[use.kernel.split('<')[0]]} alone")
        if use.spills or use.stack:
            wrong.append(f"{who}: expected no spill and no stack, got {use.spills or 0} and {use.stack} bytes")
        if limit is None:
            wrong.append(f"{who}: expected a limit in {LIMITS.name}, got none for its {use.registers} registers")
        elif use.registers > max(limit, 65536 // THREADS.get(use.arch, 2048) // 8 * 8):
            wrong.append(f"{who}: expected at most {limit} registers, got {use.registers}")
        for grep in GREPS:
            if not re.fullmatch(grep.kernels, use.kernel) or not re.fullmatch(grep.archs, use.arch):
                continue
            seen = use.count(grep)
            if grep.present != (seen > 0):
                wrong.append(f"{who}: expected {'some' if grep.present else 'no'} {grep.instruction}, got {seen}")
    names = {use.kernel for use in found}
    unknown = sorted(name for name in set(limits) - names if name.split("<")[0] not in absent(found))
    wrong += [f"{LIMITS.name}: expected kernels, got {name!r}, which is none" for name in unknown]
    for grep in GREPS:
        if not any(re.fullmatch(grep.kernels, name) for name in names | absent(found)):
            wrong.append(f"GREPS: expected kernels, got {grep.kernels!r}, which names none")
    return wrong


# ----------------------------------------------------------------------------------------------------- running
def output(*command, check: bool = True) -> str:
    """What a command prints, errors included."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment())
    if check and done.returncode:
        raise SystemExit(f"{shlex.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """With the tools that pip installs."""
    folders = [str(Path(p) / "nvidia" / "cu13" / "bin") for p in sys.path]
    return {**os.environ, "PATH": os.pathsep.join([os.environ["PATH"], *folders])}


def lacks(*tools: str) -> str:
    """The first tool that is not installed, or nothing."""
    return next((tool for tool in tools if not shutil.which(tool, path=environment()["PATH"])), "")


def built(extension: Path) -> list[Usage]:
    """The kernels of an extension."""
    found = from_built(output("cuobjdump", "-res-usage", extension))
    return _with_instructions(found, output("cuobjdump", "-sass", extension))


def _with_instructions(found: list[Usage], sass: str) -> list[Usage]:
    counts = instructions(sass)
    for use in found:
        use.instructions = counts[use.kernel, use.arch]
    return found


def compiled(archs: str, folder: Path) -> tuple[list[Usage], str]:
    """The kernels of every source on the architectures, and what ptxas said; with the flags of the build."""
    pybind11 = output(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    output("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DDLCORE_CUDA=ON",
           f"-DDLCORE_CUDA_ARCHS={archs}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", f"-Dpybind11_DIR={pybind11}",
           f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    jobs = []
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        if Path(entry["file"]).suffix == ".cu" and "__global__" in sources(Path(entry["file"])):
            jobs += [(entry, arch) for arch in re.findall(r"code=\[sm_(\w+)\]", entry["command"])]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        done = list(pool.map(lambda job: _cubin(folder, *job), jobs))
    return [use for found, _ in done for use in found], "".join(log for _, log in done)


def sources(path: Path) -> str:
    """A file of csrc/cuda/ with the headers that it includes."""
    text = path.read_text()
    for name in re.findall(r'^#include "(.*\.cuh)"', text, re.MULTILINE):
        text += sources(path.parent / name)
    return text


def _cubin(folder: Path, entry: dict, arch: str) -> tuple[list[Usage], str]:
    command = re.sub(r" (-MD|-M[TF] \S+|-o \S+|-c \S+|-Werror\S*)", "", entry["command"])
    flags = [word for word in shlex.split(command) if not word.startswith("--generate-code")]
    cubin = folder / f"{Path(entry['file']).stem}.{arch}.cubin"
    log = output(*flags, "-cubin", f"-arch=sm_{arch}", "-Xptxas=-v,-warn-spills", entry["file"], "-o", cubin)
    print(f"{cubin.name}", file=sys.stderr, flush=True)
    return _with_instructions(from_ptxas(log), output("cuobjdump", "-sass", cubin)), log


def version() -> str:
    """Of nvcc."""
    return "" if lacks("nvcc") else re.search(r"release .*", output("nvcc", "--version"))[0]


# ---------------------------------------------------------------------------------------------------- reporting
def table(found: list[Usage]) -> str:
    """A line a kernel, a column an architecture: registers, and bytes of what should not be."""
    archs = sorted({use.arch for use in found}, key=lambda a: (int(re.match(r"\d+", a)[0]), a))
    lines = [f"| kernel | {' | '.join(f'sm_{a}' for a in archs)} |", "|---|" + "---:|" * len(archs)]
    for name in sorted({use.kernel for use in found}):
        cells = {use.arch: _cell(use) for use in found if use.kernel == name}
        lines.append(f"| {name} | {' | '.join(cells.get(a, '') for a in archs)} |")
    return "\n".join(lines)


def row(use: Usage) -> dict:
    """A kernel with its counts of the instructions of GREPS."""
    counts = {g.instruction: use.count(g) for g in GREPS if re.fullmatch(g.kernels, use.kernel)}
    return {**vars(use), "instructions": counts}


def _cell(use: Usage) -> str:
    more = [f"{n} {name}" for name, n in (("spilled", use.spills), ("stack", use.stack)) if n]
    return ", ".join([str(use.registers), *more])


def keep(report: dict, found: list[Usage]) -> None:
    """The report as JSON and as Markdown."""
    path = RESULTS / f"{report['date']}_cuda_archs.json"
    rows = ",\n".join(json.dumps(row) for row in report["rows"])
    head = json.dumps({key: value for key, value in report.items() if key != "rows"}, indent=1)
    path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n]}}\n')
    greps = "\n".join(
        f"| `{g.instruction}` | {'present' if g.present else 'absent'} | {g.kernels.replace('|', ', ')} |" for g in GREPS
    )
    path.with_suffix(".md").write_text(
        f"# Registers of the CUDA kernels\n\n{report['date']}, {report['nvcc']}, `{report['command']}`. No kernel spills, "
        f"or has a stack, unless its cell says so.\n\n{table(found)}\n\n"
        f"| instruction | in the code | of |\n|---|---|---|\n{greps}\n\nFaults: {len(report['faults'])}.\n"
        + "".join(f"\n- {line}" for line in report["faults"])
    )


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="all", help="all (default), or a list such as 80,90")
    parser.add_argument("--built", nargs="?", type=Path, const=Path(), metavar="FILE",
                        help="check this extension, by default dlcore's own, and compile nothing")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--save", action="store_true", help="keep table and JSON in bench/results/")
    options = parser.parse_args(argv)
    if tool := lacks("cuobjdump", "nvdisasm", "c++filt", *(() if options.built else ("nvcc", "cmake", "ninja"))):
        parser.error(f"expected {tool} to be installed, got no such program")
    log = ""
    if options.built is not None:
        from dlcore import _core

        found = built(options.built if options.built.name else Path(_core.__file__))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found, log = compiled(options.arch, Path(folder))
    report = {
        "date": time.strftime("%Y-%m-%d"), "nvcc": version(),
        "command": shlex.join(["python", "bench/check_archs.py", *(sys.argv[1:] if argv is None else argv)]),
        "faults": faults(found, json.loads(LIMITS.read_text()), log),
        "rows": [row(use) for use in found],
    }  # fmt: skip
    if options.save:
        keep(report, found)
    print(json.dumps(report) if options.json else table(found))
    for line in report["faults"]:
        print(line, file=sys.stderr)
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
