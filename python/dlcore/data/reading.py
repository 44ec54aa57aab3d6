# SPDX-License-Identifier: Apache-2.0
"""The bytes of a data file, plain or gzipped (told by its first bytes), with a limit on what gzip may unfold."""

import gzip
import os
import zlib

from ..errors import FileFormatError, expected
from ..io.archive import largest_content
from ..io.atomic import open_regular


def read_bytes(path: str | os.PathLike[str], who: str) -> bytearray:
    """All bytes of the file at `path`, as a bytearray; `who` starts its messages."""
    with open_regular(path, who) as file:
        zipped = file.read(2) == b"\x1f\x8b"
        limit = largest_content(file)
        file.seek(0)
        if not zipped:
            if os.fspath(path).endswith(".gz"):
                raise FileFormatError(expected(who, "gzip data in a file named .gz", "other bytes"))
            return bytearray(file.read())
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read_limited(unzipped, limit, who)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise FileFormatError(expected(who, "whole gzip data", error)) from error


def _read_limited(stream, limit, who):
    content = bytearray()
    while block := stream.read(1 << 20):
        content += block
        if len(content) > limit:
            raise FileFormatError(expected(who, f"at most {limit} bytes after unzipping", "more"))
    return content
