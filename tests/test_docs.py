# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring and in the README runs and prints what it says; every public name has one."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(dl.__path__, "dlcore.") if not m.name.endswith(("_core", "__main__")))
NAMESPACES = {"init": dl.init, "schedules": dl.schedules, "io": dl.io}
INNER = {"arenas", "scratch", "input_affine"}  # what nets and predictors have for the planner
NEVER_RAISE = {"Parameter", "Progress"}


def public():
    """Everything that a user calls: (path, thing), methods of the net and its predictor included."""
    for space, names in {"": dl, **NAMESPACES}.items():
        for name in set(names.__all__) - {"__version__"}:
            if not inspect.ismodule(thing := getattr(names, name)):
                yield f"{space}.{name}".strip("."), thing
    for cls in (dl.Net, dl.Predictor):
        for name in dir(cls):
            if inspect.isfunction(method := getattr(cls, name)) and not name.startswith("_") and name not in INNER:
                yield f"{cls.__name__}.{name}", method


PUBLIC = dict(sorted(public()))
# Callables (shape, rng), which the module's docstring describes.
DRAWS = {f"init.{name}" for name in dl.init.__all__ if "rng" in inspect.signature(getattr(dl.init, name)).parameters}


def section(doc, title):
    """The lines of a section of a NumPy docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.M | re.S)
    return found[1].splitlines() if found else []


def arguments(thing):
    """Names that a user passes, those of every optimizer included."""
    if inspect.isclass(thing) and not inspect.isfunction(thing.__init__):
        return set()
    parameters = inspect.signature(thing).parameters
    names = {p.name for p in parameters.values() if p.kind != p.VAR_KEYWORD} - {"self"}
    return names | arguments(dl.optim.Optimizer) if "common" in parameters else names


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_an_example(name):
    assert ">>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - DRAWS))
def test_public_names_list_their_parameters(name):
    lines = section(inspect.getdoc(PUBLIC[name]), "Parameters")
    listed = {word.strip("* ") for line in lines if not line.startswith(" ") for word in line.split(" : ")[0].split(",")}
    assert arguments(PUBLIC[name]) <= listed


RAISING = [n for n, thing in PUBLIC.items() if n not in DRAWS | NEVER_RAISE and arguments(thing)]


@pytest.mark.parametrize("name", RAISING)
def test_public_names_list_their_errors(name):
    assert section(inspect.getdoc(PUBLIC[name]), "Raises")


@pytest.mark.parametrize("name", NAMESPACES)
def test_modules_offer_what_is_their_own(name):
    module = NAMESPACES[name]
    assert module.__doc__
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, each).__module__.startswith("dlcore.") for each in module.__all__)


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="no README beside the tests")
def test_the_readmes_python_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert np.isfinite(names["net"].evaluate(names["x_test"], names["y_test"])["loss"])
