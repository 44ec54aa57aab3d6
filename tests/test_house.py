# SPDX-License-Identifier: Apache-2.0
"""The house keeps its shape: who imports whom, what stands where, and that everything has an oracle and a test."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import oracle
from cases import CASES
from dlcore import _core

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE, TESTS = ROOT / "csrc", ROOT / "python" / "dlcore", ROOT / "tests"
SUFFIXES = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh"}
LINES = 500

# Rooms that know nothing of networks, which any room may use.
COMMON = {"arguments", "changes", "errors", "backend"}
# Room -> the rooms it may import beside COMMON; what is not listed may import anything but the doors.
ARROWS = {
    "errors": set(),
    "arguments": set(),
    "changes": set(),
    "backend": {"_core"},
    "graph": set(),
    "ops": {"graph"},
    "plan": {"ops", "graph", "_core"},
    "store": {"plan", "inputs"},
    "inputs": {"_core", "device_array"},
    "run": {"plan", "ops", "graph", "store", "inputs"},
    "init": set(),
    "layers": {"ops", "init", "run", "graph"},
    "losses": {"ops", "init", "run", "graph"},
    "optim": {"plan", "ops", "graph", "inputs", "_core"},
    "io": set(),
    "data": {"io"},
}
# Rooms that people enter by; no other room imports them.
DOORS = {"__init__", "__main__", "cli", "bench"}
# Folder of csrc -> what it may include.
INCLUDES = {
    "math": {"math"},
    "cpu": {"cpu", "math", "backend.h"},
    "cuda": {"cuda", "math", "backend.h", "check.h", "runtime"},
    "runtime": {"runtime", "backend.h", "check.h"},
    "": {
        "runtime",
        "backend.h",
        "check.h",
        "choose.h",
        "bindings_instructions.h",
        "bindings_memory.h",
        "bindings_probe.h",
        "bindings_cuda.h",
        "bindings_gil.h",
        "bindings_dlpack.h",
        "dlpack.h",
        "cuda",
    },
}
# Headers without code of their own, for files that are compiled for one instruction set.
PLAIN_HEADERS = {"cstdint", "cstddef", "immintrin.h", "arm_neon.h", "arm_fp16.h"}


def sources(*folders):
    found = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix in SUFFIXES]
    return [p for p in found if "__pycache__" not in p.parts]


def everything():
    return [*sources(CSRC, PACKAGE, TESTS, ROOT / "bench"), ROOT / "CMakeLists.txt", ROOT / "pyproject.toml"]


# ------------------------------------------------------------------------------------------------------ arrows
def room_of(path):
    """The first part of a module's name below dlcore."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removesuffix(".pyi")


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree):
    """Import nodes that run."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
        waiting.extend(children)


def imported_names(path):
    """The parts of every name that is imported, relative imports resolved."""
    package = ["dlcore", *path.relative_to(PACKAGE).parts[:-1]]
    for node in imports(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        else:
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from ([*base, alias.name] for alias in node.names)


def python_arrows():
    for path in sources(PACKAGE):
        room = room_of(path)
        rooms = {name[1] for name in imported_names(path) if name[0] == "dlcore" and len(name) > 1}
        for other in rooms - {room, "__version__"}:
            yield path, room, other


def test_python_imports_follow_the_arrows():
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path, room, other in python_arrows()
        if room in ARROWS and other not in ARROWS[room] | COMMON
    ]
    assert not wrong


def test_nothing_imports_the_doors_or_the_tests():
    wrong = [f"{path.relative_to(ROOT)} imports {other}" for path, room, other in python_arrows()
             if other in DOORS and room not in DOORS]  # fmt: skip
    assert not wrong
    outside = {"tests", "checks", "cases", "instructions", "oracle", "conftest", "pytest"}
    for path in sources(PACKAGE):
        assert not outside & {name[0] for name in imported_names(path)}, path


def test_imports_between_rooms_have_no_cycle():
    arrows = {}
    for _, room, other in python_arrows():
        if room not in DOORS:
            arrows.setdefault(room, set()).add(other)
    while leaves := {other for others in arrows.values() for other in others} | set(arrows):
        free = {room for room in leaves if not arrows.get(room)}
        assert free, f"cycle among {sorted(leaves)}"
        arrows = {room: others - free for room, others in arrows.items() if room not in free}


def includes(path):
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def target(path, name):
    """Folder of csrc that an include in quotes leads to, or the file itself where it lies in csrc."""
    for base in (path.parent, CSRC):
        found = (base / name).resolve()
        if found.exists():
            parts = found.relative_to(CSRC).parts
            return parts[0]
    return name


def test_includes_follow_the_arrows():
    wrong = []
    for path in sources(CSRC):
        parts = path.relative_to(CSRC).parts
        allowed = INCLUDES[parts[0] if len(parts) > 1 else ""]
        for kind, name in includes(path):
            if kind == '"' and target(path, name) not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} includes {name}")
    assert not wrong


def test_only_the_cuda_backend_knows_the_runtime():
    users = [
        p for p in sources(CSRC / "cuda") if any(target(p, name) == "runtime" for kind, name in includes(p) if kind == '"')
    ]
    assert users == [CSRC / "cuda" / "backend.cpp"]


def test_words_of_cuda_stand_in_few_files():
    """Kernels use shared memory and start through launch.cuh, so that the emulator can run them unchanged."""
    words = re.compile(r"__shared__|<<<|cuda_runtime|\bcuda[A-Z]\w+\(")
    users = {p.relative_to(CSRC / "cuda").as_posix() for p in sources(CSRC / "cuda") if words.search(p.read_text())}
    assert users == {"launch.cuh", "device.cu", "emulator/runtime.h", "emulator/runtime.cpp", "emulator/cublaslt.cpp"}


def test_pybind11_is_included_in_one_file():
    users = [p for p in sources(CSRC) if any(name.startswith("pybind11") for _, name in includes(p))]
    assert users == [CSRC / "bindings.cpp"]


def test_files_of_an_instruction_set_include_no_library():
    wrong = [
        f"{path.relative_to(ROOT)} includes <{name}>"
        for path in sources(CSRC / "cpu", CSRC / "math")
        for kind, name in includes(path)
        if kind == "<" and name not in PLAIN_HEADERS
    ]
    assert not wrong


# --------------------------------------------------------------------------------------------------- constants
def numbers_in(path):
    """The numbers of five or more decimals in the code of a file, comments and docstrings left out."""
    number = re.compile(r"(?<![\w.])\d+\.\d{5,}(?:[eE][-+]?\d+)?")
    if path.suffix == ".py":
        constants = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
        return [found for c in constants if isinstance(c, float) for found in number.findall(repr(c))]
    return number.findall(re.sub(r"//.*", "", path.read_text()))


def test_constants_of_formulas_stand_only_in_math():
    """0.044715 and its like would drift apart in two places."""
    two_to_the_112 = "5.192296858534828e33"  # between the exponents of float16 and float32
    wrong = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in sources(CSRC, PACKAGE)
        if CSRC / "math" not in path.parents
        for found in numbers_in(path)
        if found != two_to_the_112
    ]
    assert not wrong
    assert "0.044715" in numbers_in(CSRC / "math" / "activations.h")


def test_philox_stands_only_in_math():
    users = [p.relative_to(CSRC).as_posix() for p in sources(CSRC) if re.search("(?i)0xD2511F53", p.read_text())]
    assert users == ["math/philox.h"]


# -------------------------------------------------------------------------------------------- oracle and tests
def test_every_formula_has_an_oracle(backend):
    assert set(backend.activations) == set(oracle.ACTIVATIONS)
    assert set(backend.rules) == set(oracle.RULES)
    assert {*backend.losses, "softmax_cross_entropy"} == set(oracle.LOSSES)


def test_every_backend_has_the_same_formulas(backend):
    first = _core.Backend("baseline")
    for names in ("activations", "rules", "losses"):
        assert getattr(backend, names) == getattr(first, names)


def files_with(word):
    return [p.name for p in TESTS.glob("test_*.py") if f'"{word}"' in p.read_text()]


def test_every_kernel_has_a_case_and_a_test():
    assert set(CASES) == set(_core.KERNELS)
    kernel_tests = {"test_product.py", "test_pointwise.py", "test_norm_kernels.py", "test_loss_kernels.py",
                    "test_update_kernels.py", "test_gather.py", "test_pack.py"}  # fmt: skip
    for kernel in _core.KERNELS:
        assert kernel_tests & set(files_with(kernel)), kernel


def test_every_stage_has_a_test():
    for kind in _core.STAGES:
        assert "test_pointwise.py" in files_with(kind) or kind.startswith("activate"), kind


# ------------------------------------------------------------------------------------------------------- files
def test_files_begin_with_their_licence():
    wrong = [p for p in everything() if "SPDX-License-Identifier: Apache-2.0" not in p.read_text().split("\n", 1)[0]]
    assert not wrong


def test_no_file_is_too_long():
    long = {str(p.relative_to(ROOT)): n for p in everything() if (n := len(p.read_text().splitlines())) > LINES}
    assert not long


def test_no_file_has_lines_or_words_of_a_draft():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [p for p in everything() if p != Path(__file__) and words.search(p.read_text())]
    assert not wrong


# ----------------------------------------------------------------------------------------------------- symbols
def tool(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_extension_needs_no_library_of_cuda():
    """The runtime is linked statically; the driver and cuBLASLt are looked up where they are used."""
    needed = re.findall(r"NEEDED.*\[(.+)\]", tool("readelf", "-d", _core.__file__))
    assert needed
    assert not [name for name in needed if re.match("lib(cu|nv)", name)]


def test_weak_symbols_of_an_instruction_set_name_it():
    """The linker keeps one of the copies of a weak symbol: it must not be one that only some processors can run."""
    objects = sorted(str(p) for p in ROOT.glob("build/*/CMakeFiles/dlcore_*_f*.dir/**/*.o"))
    if not objects:
        pytest.skip("no object files in build/")
    path, weak = "", 0
    for line in tool("nm", "-C", "-A", "--defined-only", *objects).splitlines():
        path, symbol = line.split(":", 1)
        _, kind, name = symbol.split(" ", 2)
        isa = re.search(r"dlcore_(\w+_f\d+)\.dir", path)[1]
        assert kind not in "WVwvu" or f"cpu::{isa}::" in name, f"{path}: {name}"
        weak += kind in "WVwvu"
    assert weak > 0


def test_vector_instructions_stand_in_their_instruction_sets_functions():
    if "avx" not in _core.cpu_info()["instruction_sets"]:
        pytest.skip("not an x86 processor with AVX")
    extensions = [*map(str, ROOT.glob("build/*/_core*.so")), _core.__file__]
    whole = [path for path in extensions if "dlcore::cpu::avx2_f32" in tool("nm", "-C", path)]
    if not whole:
        pytest.skip("every extension is stripped of its symbols")
    function, wrong, seen = "", set(), 0
    for line in tool("objdump", "-d", "-C", "--no-show-raw-insn", whole[0]).splitlines():
        if line.endswith(">:"):
            function = line.split("<", 1)[1][:-2]
        elif "mm" in line and re.search(r"\tv\w+\s.*%[xyz]mm", line):
            seen += 1
            if not re.search("dlcore::cpu::(avx|amx|standin)", function):
                wrong.add(function)
    assert not wrong
    assert seen > 1000


def test_what_needs_the_emulator_is_marked_so(request):
    """`-m emulated` selects all that a build without the emulator skips: only conftest.py asks, and by the marker."""
    words = re.compile("emulator" + "_built|skip.*without the " + "emulator")
    assert [p.name for p in sorted(Path(__file__).parent.glob("*.py")) if words.search(p.read_text())] == ["conftest.py"]
    for item in request.session.items:
        reasons = {
            str(mark.kwargs.get("reason", mark.args[-1:])) for name in ("skip", "skipif") for mark in item.iter_markers(name)
        }
        if any("emulator" in reason for reason in reasons) or "emulator" in item.fixturenames:
            assert item.get_closest_marker("emulated"), item.nodeid
