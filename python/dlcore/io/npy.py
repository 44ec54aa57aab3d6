# SPDX-License-Identifier: Apache-2.0
"""One array as a member of an archive: NumPy's .npy format, read without evaluating anything.

The header is a Python literal; it is matched by a pattern instead of parsed, and the sizes that it states are checked
against the bytes that are there before any memory is asked for.
"""

import io
import math
import re
from typing import IO, Any

import numpy as np

from ..errors import DataError, FileFormatError, describe, expected

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes, NumPy's own limit
_ENTRY = r"\s*'(\w+)'\s*:\s*('[^']*'|True|False|\([0-9,\s]*\))\s*"
_HEADER = r"\{" + ",".join([_ENTRY] * 3) + r",?\s*\}\s*"
_KINDS = "biufcSU"  # boolean, integers, floats, complex, bytes, text
_SHAPE = r"\(\s*(?:(\d{1,19}(?:\s*,\s*\d{1,19})*)\s*,?)?\s*\)"
_DESCR = rf"'([<>|=]?[{_KINDS}][0-9]{{1,10}})'"


def to_storable(value: Any, who: str, name: str) -> np.ndarray:
    """`value` as an array whose memory is one block in C or Fortran order, or an error."""
    if isinstance(value, np.ndarray) and hasattr(value, "mask"):
        raise DataError(expected(who, f"{name!r} as a plain array", "a masked array", hint="call its filled() first"))
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(expected(who, f"{name!r} as an array", f"{describe(value)}: {error}")) from error
    if array.dtype.kind not in _KINDS or array.dtype.itemsize == 0:
        raise DataError(expected(who, f"{name!r} of booleans, numbers or text", describe(array)))
    return array if array.flags.f_contiguous else np.asarray(array, order="C")


def parts(array: np.ndarray) -> tuple[bytes, memoryview]:
    """The header and the elements as two byte blocks; the second is a view of the array's memory."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    in_order = array if array.flags.c_contiguous else array.T
    return header.getvalue(), memoryview(in_order.reshape(-1).view(np.uint8))


def read_array(stream: IO[bytes], size: int, what: str) -> np.ndarray:
    """The array in a member of `size` bytes; `what` names it in messages."""
    header, length = _read_header(stream, size, what)
    dtype, fortran_order, shape = _parse(header, what)
    count = math.prod(shape)
    if count * dtype.itemsize != size - length:
        raise FileFormatError(expected(what, f"{count} elements of {dtype} as the header says", f"{size - length} bytes"))
    block = np.empty(count * dtype.itemsize, np.uint8)
    read_into(stream, memoryview(block), what)
    _check_elements(block, dtype, what)
    return block.view(dtype).reshape(shape, order="F" if fortran_order else "C")


def read_into(stream: IO[bytes], block: memoryview, what: str) -> None:
    """Fill the block from the stream, which checks the member's CRC with its last byte."""
    filled = 0
    while filled < len(block):
        got = stream.readinto(block[filled : filled + (1 << 20)])
        if not got:
            raise FileFormatError(expected(what, f"{len(block)} bytes", f"{filled}", hint="the file is truncated"))
        filled += got


def _read_header(stream, size, what):
    start = stream.read(12)
    version = start[6:8]
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(version, 0)
    if start[:6] != _MAGIC or not width or len(start) < 12:
        raise FileFormatError(expected(what, "an array in .npy format 1.0, 2.0 or 3.0", describe(start)))
    length = int.from_bytes(start[8 : 8 + width], "little")
    first = start[8 + width :]
    if not len(first) <= length <= min(_LONGEST_HEADER, size - 8 - width):
        raise FileFormatError(expected(what, f"a header of at most {_LONGEST_HEADER} bytes", f"{length} bytes"))
    rest = stream.read(length - len(first))
    return (first + rest).decode("utf-8" if version == b"\3\0" else "latin-1"), 8 + width + length


def _parse(header, what):
    found = re.fullmatch(_HEADER, header)
    groups = found.groups() if found else ()
    fields = dict(zip(groups[::2], groups[1::2], strict=True))
    if set(fields) != {"descr", "fortran_order", "shape"}:
        raise FileFormatError(expected(what, "a .npy header with a plain dtype, fortran_order and shape", describe(header)))
    descr = re.fullmatch(_DESCR, fields["descr"])
    shape = re.fullmatch(_SHAPE, fields["shape"])
    if not descr or not shape or fields["fortran_order"] not in ("True", "False"):
        raise FileFormatError(
            expected(
                what,
                "booleans, numbers or text of a known shape",
                f"dtype {fields['descr']}, shape {describe(fields['shape'])}",
            )
        )
    try:
        dtype = np.dtype(descr[1])
    except TypeError:
        dtype = None
    sizes = tuple(int(dimension) for dimension in (shape[1] or "").split(",") if dimension)
    if dtype is None or dtype.itemsize == 0 or len(sizes) > 32 or max(sizes, default=0) > np.iinfo(np.intp).max:
        raise FileFormatError(
            expected(
                what,
                "a known dtype and at most 32 dimensions",
                f"dtype {fields['descr']}, shape {describe(fields['shape'])}",
            )
        )
    return dtype, fields["fortran_order"] == "True", sizes


def _check_elements(block, dtype, what):
    # Bits that no NumPy operation makes, and on which NumPy's own behaviour is undefined.
    if dtype.kind == "b" and block.max(initial=0) > 1:
        raise FileFormatError(expected(what, "booleans of 0 and 1", f"a byte {block.max()}"))
    if dtype.kind == "U" and block.view(np.dtype("u4").newbyteorder(dtype.byteorder)).max(initial=0) > 0x10FFFF:
        raise FileFormatError(expected(what, "text in Unicode", "a code point above 10FFFF"))
