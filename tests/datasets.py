# SPDX-License-Identifier: Apache-2.0
"""What tests of data share: files to read and columns of tables."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from dlcore.data import TextColumn

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"needs the data set {name} in {SHARED}")
    return SHARED / name


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def text_column(*values):
    labels = sorted({value for value in values if value is not None})
    return TextColumn(np.array([labels.index(value) if value is not None else -1 for value in values], np.int32), tuple(labels))
