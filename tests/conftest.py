# SPDX-License-Identifier: Apache-2.0
"""Fixtures: every backend that runs here, thread counts, and the data sets beside the repository."""

from pathlib import Path

import pytest

import instructions
from dlcore import _core
from dlcore import backend as backends

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# The kernels of cuda/ beside those of the CPU: in the emulator where it is built, on a GPU where there is one.
DEVICES = ["emulated"] * _core.emulator_built() + ["cuda"] * _core.cuda_info()["available"]


def pytest_collection_modifyitems(config, items):
    """Devices compute in float32 only. What needs the emulator or a GPU is marked `emulated` or `cuda`, and skipped without."""
    left_out = [i for i in items if hasattr(i, "callspec") and _is_left_out(**i.callspec.params)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if i not in set(left_out)]
    absent = {"emulated": "built without the emulator", "cuda": _core.cuda_info()["reason"]}
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        needed = {value.partition(" ")[0] for value in params if isinstance(value, str)}
        needed |= {"emulated"} if "emulator" in item.fixturenames else set()
        for device in needed & absent.keys():
            item.add_marker(device)
        for mark in [*item.iter_markers("emulated"), *item.iter_markers("cuda")]:
            if mark.name not in DEVICES:
                item.add_marker(pytest.mark.skip(absent[mark.name]))


def _is_left_out(isa="", real="", **_):
    return isa in DEVICES and real == "float64"


@pytest.fixture(params=[*_core.cpu_info()["available"], *DEVICES])
def isa(request):
    """An instruction set of this machine, or a device."""
    return request.param


@pytest.fixture(params=[isa for isa in (*_core.cpu_info()["available"], *DEVICES) if isa != "emulated"])
def formula_isa(request):
    """One that compiles the formulas for itself; the emulator's, but tanh, have the bits of AVX2 (test_emulator.py)."""
    return request.param


@pytest.fixture(params=_core.cpu_info()["available"])
def cpu_isa(request):
    """An instruction set of this machine."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def real(request):
    return request.param


@pytest.fixture
def backend(isa, real):
    return instructions.backend(isa, real)


UNITS = [isa for isa in _core.cpu_info()["available"] if instructions.backend(isa, "float32").unit]


# The kernels of tensor cores by name, on the devices that have them.
def has_kernels(device, gemm):
    try:
        return bool(_core.Backend(device).terms("float32", 1, 1, 1, gemm))
    except ValueError:
        return False


TENSOR_CORES = [f"{device} {gemm}" for device in DEVICES for gemm in ("mma", "wgmma") if has_kernels(device, gemm)]


def backend_with_unit(name):
    if name == "none":
        pytest.skip("no matrix unit here: build with -DDLCORE_TILES_STANDIN=ON")
    isa, *gemm = name.split()
    found = instructions.backend(isa, "float32")
    return instructions.ByName(found, *gemm) if gemm else found


@pytest.fixture(params=UNITS or ["none"])
def cpu_unit(request):
    """A backend of the CPU whose products can sum bf16 terms."""
    return backend_with_unit(request.param)


@pytest.fixture(params=[*UNITS, *TENSOR_CORES] or ["none"])
def unit(request):
    """The same, of a device too."""
    return backend_with_unit(request.param)


@pytest.fixture(params=TENSOR_CORES or ["emulated mma"])
def tensor_cores(request):
    """A backend of a device whose products of terms are made by kernels of a name."""
    return backend_with_unit(request.param)


@pytest.fixture(params=["cpu", *DEVICES])
def device(request):
    return request.param


@pytest.fixture(params=DEVICES or ["emulated"])
def other_device(request):
    """A device that is not the CPU."""
    return request.param


@pytest.fixture
def second_device(other_device):
    """Another device of the same kind."""
    if len(backends.INFO[other_device]()["devices"]) < 2:
        pytest.skip("one device only")
    return f"{other_device}:1"


@pytest.fixture
def emulator():
    """The hooks of the emulator, set back at the end."""
    yield _core
    for what, value in (("limit", 2**40), ("device", 0), ("allocations", -1), ("launches", -1), ("library", 1)):
        _core.emulator_set(what, value)


@pytest.fixture(params=[1, 2])
def threads(request):
    return request.param


@pytest.fixture(scope="session")
def shared_data():
    """The folder of mnist, fashion-mnist, adult, california-housing and covertype."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no data sets in {SHARED_DATA}")
    return SHARED_DATA
