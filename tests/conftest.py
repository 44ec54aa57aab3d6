# SPDX-License-Identifier: Apache-2.0
"""Fixtures: every backend that runs here, thread counts, and the data sets beside the repository."""

from pathlib import Path

import pytest

import instructions
from dlcore import _core

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(params=_core.cpu_info()["available"])
def isa(request):
    """An instruction set of this machine."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def real(request):
    return request.param


@pytest.fixture
def backend(isa, real):
    return instructions.backend(isa, real)


UNITS = [isa for isa in _core.cpu_info()["available"] if instructions.backend(isa, "float32").unit]


@pytest.fixture(params=UNITS or ["none"])
def unit(request):
    """A backend whose products can sum bf16 terms."""
    if request.param == "none":
        pytest.skip("no matrix unit here: build with -DDLCORE_TILES_STANDIN=ON")
    return instructions.backend(request.param, "float32")


@pytest.fixture(params=["cpu"])
def device(request):
    return request.param


@pytest.fixture(params=[1, 2])
def threads(request):
    return request.param


@pytest.fixture(scope="session")
def shared_data():
    """The folder of mnist, fashion-mnist, adult, california-housing and covertype."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no data sets in {SHARED_DATA}")
    return SHARED_DATA
