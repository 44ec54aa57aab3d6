# SPDX-License-Identifier: Apache-2.0
"""The zip frame of an archive: what is written around the members, and what is believed of it when reading.

Written are stored members with sizes of 64 bits, no times and nothing optional, so the frame is a function of the
members' names, checksums and sizes. Reading one of these files therefore compares the frame with what would be
written: any byte that differs is an error. Archives of other writers are read through zipfile, with the checks below.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from ..errors import FileFormatError, describe, expected

if TYPE_CHECKING:
    import zipfile

_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_DATE = 0x21  # 1980-01-01, the first that zip knows
_MADE_BY = 3 << 8 | 45  # Unix, version 4.5: the first with sizes of 64 bits
_IN_EXTRA = 0xFFFFFFFF  # a size or offset that stands in the extra field of 64 bits
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_FREE_EXPANSION = 1 << 30  # bytes
_EXPANSION = 200  # times the file: printed numbers unfold 10 times, deflate's largest is 1,032


def largest_content(file: BinaryIO) -> int:
    """How many bytes a compressed file may unfold to before it is taken for a bomb."""
    return max(_FREE_EXPANSION, _EXPANSION * size_of(file))


def size_of(file: BinaryIO) -> int:
    """The bytes of an open file."""
    return file.seek(0, os.SEEK_END)


def local_header(name: bytes, crc: int, size: int) -> bytes:
    """The bytes before a member; name in UTF-8."""
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    sizes = _IN_EXTRA, _IN_EXTRA, len(name), len(extra)
    return _LOCAL.pack(b"PK\3\4", 45, _UTF8, _STORED, 0, _DATE, crc, *sizes) + name + extra


def directory(members: list[tuple[bytes, int, int]]) -> bytes:
    """The bytes after the last member; members: (name, crc, size) in order."""
    entries, offset = [], 0
    for name, crc, size in members:
        extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
        sizes = _IN_EXTRA, _IN_EXTRA, len(name), len(extra), 0
        place = 0, 0, 0o600 << 16, _IN_EXTRA  # disk, internal and external attributes, offset
        fields = b"PK\1\2", _MADE_BY, 45, _UTF8, _STORED, 0, _DATE, crc, *sizes, *place
        entries.append(_CENTRAL.pack(*fields) + name + extra)
        offset += len(local_header(name, crc, size)) + size
    table, count = b"".join(entries), len(entries)
    end64 = _END64.pack(b"PK\6\6", 44, _MADE_BY, 45, 0, 0, count, count, len(table), offset)
    locator = _LOCATOR.pack(b"PK\6\7", 0, offset + len(table), 1)
    end = _END.pack(b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _IN_EXTRA, _IN_EXTRA, 0)
    return table + end64 + locator + end


def check_frame(file: BinaryIO, infos: list[zipfile.ZipInfo], what: str) -> None:
    """Refuse a file whose bytes around its members are not the ones that are written for these members."""
    members = [(info.filename.encode(), info.CRC, info.file_size) for info in infos]
    offset = 0
    for name, crc, size in members:
        header = local_header(name, crc, size)
        _compare(file, offset, header, what)
        offset += len(header) + size
    tail = directory(members)
    _compare(file, offset, tail, what)
    if size_of(file) != offset + len(tail):
        raise FileFormatError(expected(what, f"{offset + len(tail)} bytes", size_of(file)))


def check_members(file: BinaryIO, infos: list[zipfile.ZipInfo], what: str) -> None:
    """Refuse no members, duplicates, unsafe names, other methods, overlaps and bombs."""
    file_size = size_of(file)
    if not infos or min(info.header_offset for info in infos) != 0:
        raise FileFormatError(expected(what, "an archive from the first byte on", f"{len(infos)} members elsewhere"))
    names = set()
    for info in infos:
        if info.filename in names:
            raise FileFormatError(expected(what, "every name once", f"{info.filename!r} again"))
        names.add(info.filename)
        if info.orig_filename != info.filename or not is_safe(info.filename):
            raise FileFormatError(expected(what, "plain member names", describe(info.orig_filename)))
        if info.compress_type not in (_STORED, _DEFLATED):
            raise FileFormatError(expected(what, "stored or deflated members", f"method {info.compress_type}"))
        if info.compress_type == _STORED and info.compress_size != info.file_size:
            raise FileFormatError(expected(what, f"{info.compress_size} bytes in {info.filename!r}", info.file_size))
    claimed = sum(info.file_size for info in infos)
    if claimed > largest_content(file):
        raise FileFormatError(
            expected(
                what,
                f"at most {largest_content(file)} bytes in a file of {file_size}",
                f"{claimed} claimed",
                hint="store large arrays uncompressed",
            )
        )
    _check_places(file, infos, file_size, what)
    # zipfile does not look at the count: an entry that another one swallows as its comment would be missing.
    file.seek(-_END.size, os.SEEK_END)
    mark, _, _, _, count, _, _, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment or count != min(len(infos), 0xFFFF):
        raise FileFormatError(expected(what, f"{count} members and no comment", f"{len(infos)} members"))


def is_safe(name: str) -> bool:
    """Whether a member's name stays inside a folder, on every system, and prints on one line."""
    parts = name.split("/")
    return name.isprintable() and not set(parts) & {"", ".", ".."} and not set(name) & set("\\:") and len(name) <= 1000


def crc32(blocks: Iterable[bytes | memoryview]) -> int:
    """The CRC-32 of the blocks, one after another."""
    crc = 0
    for block in blocks:
        crc = zlib.crc32(block, crc)
    return crc


def _check_places(file, infos, file_size, what):
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        start = info.header_offset
        file.seek(start)
        header = file.read(_LOCAL.size)
        if start < end or len(header) < _LOCAL.size:
            raise FileFormatError(expected(what, "members one after another", f"{info.filename!r} at byte {start}"))
        name_length, extra_length = _LOCAL.unpack(header)[-2:]
        end = start + _LOCAL.size + name_length + extra_length + info.compress_size
    if end > file_size:
        raise FileFormatError(expected(what, f"at least {end} bytes", file_size, hint="the file is truncated"))


def _compare(file, offset, block, what):
    file.seek(offset)
    if file.read(len(block)) != block:
        raise FileFormatError(expected(what, "an unaltered file", f"other bytes near {offset}"))
