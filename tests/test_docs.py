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
# Data, not actions: their one example would repeat another's.
WITHOUT_EXAMPLE = {"Layer", "Parameter", "Callback", "History", "Progress", "__version__"}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(dl.__all__) - WITHOUT_EXAMPLE))
def test_public_names_have_an_example(name):
    thing = getattr(dl, name)
    if inspect.ismodule(thing):
        assert thing.__doc__
    else:
        assert ">>> " in inspect.getdoc(thing)


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="no README beside the tests")
def test_the_readmes_python_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert np.isfinite(names["net"].evaluate(names["x_test"], names["y_test"])["loss"])
