# SPDX-License-Identifier: Apache-2.0
"""Readers of data sets, their splits and their preprocessing."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import preprocess
    from .bundled import digits
    from .checks import check_finite
    from .dataset import Dataset
    from .encode import TableEncoder
    from .idx import fashion_mnist, mnist, read_idx
    from .preparation import Prepared, prepare
    from .preprocess import Center, Standardize, TargetScaler, Unscaled
    from .rows import load_features, load_labelled
    from .schema import Schema
    from .source import load, source_kind
    from .splits import split
    from .table import Table, TextColumn, read_csv
    from .task import infer_task

__all__ = [
    "Center", "Dataset", "Prepared", "Schema", "Standardize", "Table", "TableEncoder", "TargetScaler", "TextColumn",
    "Unscaled", "check_finite", "digits", "fashion_mnist", "infer_task", "load", "load_features", "load_labelled",
    "mnist", "prepare", "preprocess", "read_csv", "read_idx", "source_kind", "split",
]  # fmt: skip

_MODULES = {
    "bundled": ["digits"],
    "checks": ["check_finite"],
    "dataset": ["Dataset"],
    "encode": ["TableEncoder"],
    "idx": ["fashion_mnist", "mnist", "read_idx"],
    "preparation": ["Prepared", "prepare"],
    "preprocess": ["Center", "Standardize", "TargetScaler", "Unscaled", "preprocess"],
    "rows": ["load_features", "load_labelled"],
    "schema": ["Schema"],
    "source": ["load", "source_kind"],
    "splits": ["split"],
    "table": ["Table", "TextColumn", "read_csv"],
    "task": ["infer_task"],
}


def __getattr__(name: str) -> Any:
    # Each name is imported when it is first asked for: training on arrays needs no readers.
    for module, names in _MODULES.items():
        if name in names:
            found = importlib.import_module(f".{module}", __name__)
            value = found if name == module else getattr(found, name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
