# SPDX-License-Identifier: Apache-2.0
"""Archives with any contents, and the claim that one cannot be loaded."""

import io as stdio
import struct
import zipfile

import pytest

from dlcore import io
from dlcore.errors import FileFormatError

HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"  # of a .npy member with 24 bytes


def zip_of(path, members, method=zipfile.ZIP_STORED):
    """A zip archive with any members: name -> bytes."""
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def npy_of(header, payload=b"", version=b"\1\0"):
    """A .npy member with any header."""
    header = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + payload


def refused(content):
    """Loading these bytes fails, with a message of one line of the common form. In memory: there are thousands."""
    with pytest.raises(FileFormatError) as caught:
        io._load(stdio.BytesIO(content), "load_arrays")
    assert "\n" not in str(caught.value)
    assert ": expected " in str(caught.value)
    assert ", got " in str(caught.value)
