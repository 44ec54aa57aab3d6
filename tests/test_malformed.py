# SPDX-License-Identifier: Apache-2.0
"""Files that claim to be archives of arrays: each is refused with one line, before memory is asked for."""

import io as stdio
import struct
import zipfile
import zlib

import numpy as np
import pytest

from archives import HEADER, npy_of, refused, zip_of
from dlcore import io
from dlcore.errors import FileFormatError
from dlcore.io import load_arrays, save_arrays


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"1234567",
        b"\x93NUMPY\1\0",
        b"\x80\4]q\0.",
        b"\x7fELF" + bytes(100),
        b"x,y\n1,2\n",
        bytes(100_000),
        b"PK\5\6" + bytes(17),
        b"PK\5\6" + b"\xff" * 18,
        b"PK\6\6" + b"\xff" * 100 + b"PK\5\6" + b"\xff" * 16 + b"\0\0",
    ],
)
def test_load_refuses_other_files(tmp_path, content):
    refused(content)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileFormatError):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\1\0",
        b"\x93NUMPY\1\0\xff\xff",
        b"\x93NUMPY\2\0\xff\xff\xff\xff",
        b"\x93NUMPY\x09\0\0\0",
        b"\x80\4N.",
        npy_of(HEADER, bytes(23)),
        npy_of(HEADER, bytes(25)),
        npy_of(""),
        npy_of("{}"),
        npy_of("\xff" * 10, version=b"\3\0"),
        npy_of(b"\xff" * 10, version=b"\3\0"),
        npy_of(HEADER.replace("(3,)", "(4611686018427387907,)"), bytes(24)),
        npy_of(HEADER.replace("(3,)", "(-3,)"), bytes(24)),
        npy_of(HEADER.replace("(3,)", "(3.0,)"), bytes(24)),
        npy_of(HEADER.replace("(3,)", "(True,)"), bytes(8)),
        npy_of(HEADER.replace("(3,)", "None"), bytes(8)),
        npy_of(HEADER.replace("(3,)", "(0, 18446744073709551616)")),
        npy_of(HEADER.replace("(3,)", "(0, 9223372036854775807)")),
        npy_of(HEADER.replace("(3,)", "(" + "1, " * 65 + ")"), bytes(8)),
        npy_of(HEADER.replace("(3,)", "(" * 5000), bytes(24)),
        npy_of(HEADER.replace("(3,)", "(3, 1 1)"), bytes(24)),
        npy_of(HEADER.replace("False", "0"), bytes(24)),
        npy_of(HEADER.replace("<f8", "|O"), bytes(24)),
        npy_of(HEADER.replace("'<f8'", "[('a', '<f8')]"), bytes(24)),
        npy_of(HEADER.replace("<f8", "<f9"), bytes(27)),
        npy_of(HEADER.replace("<f8", "V8"), bytes(24)),
        npy_of(HEADER.replace("<f8", "M8[s]"), bytes(24)),
        npy_of(HEADER.replace("<f8", "<U0"), b""),
        npy_of(HEADER.replace("<f8", "<U99999999999"), b""),
        npy_of(HEADER.replace("<f8", "f8,f8"), bytes(48)),
        npy_of(HEADER.replace("'<f8'", "'<f8', 'descr': '<f8'"), bytes(24)),
        npy_of(HEADER.replace("descr", "dtype"), bytes(24)),
        npy_of(HEADER.replace("(3,)", "__import__('os').abort()"), bytes(24)),
        npy_of(HEADER + " " * 10_001, bytes(24)),
        npy_of(HEADER.replace("<f8", "|b1"), b"\0\1\2"),
        npy_of(HEADER.replace("<f8", "<U1"), b"\0\0\0\0" * 2 + b"\0\0\x11\0"),
    ],
    ids=lambda member: "",
)
def test_load_refuses_malformed_members(tmp_path, member):
    refused(zip_of(tmp_path / "a.npz", {"x.npy": member}).read_bytes())


@pytest.mark.parametrize(
    "name", ["../x.npy", "/x.npy", "a/../../x.npy", "x\n.npy", "C:\\x.npy", "x", "x.txt", "folder/", ".npy/"]
)
def test_load_refuses_member_names(tmp_path, name):
    member = stdio.BytesIO()
    np.save(member, np.ones(2))
    refused(zip_of(tmp_path / "a.npz", {name: member.getvalue()}).read_bytes())


def patched(path, *changes):
    """The file's bytes with (signature, offset after it, bytes) written at every place with that signature."""
    content = bytearray(path.read_bytes())
    for signature, offset, value in changes:
        place = content.find(signature)
        while place >= 0:
            content[place + offset : place + offset + len(value)] = value
            place = content.find(signature, place + 4)
    return content


LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


@pytest.mark.parametrize(
    "changes",
    [
        [(LOCAL, 6, b"\1"), (CENTRAL, 8, b"\1")],  # encrypted
        [(LOCAL, 8, b"\x0c"), (CENTRAL, 10, b"\x0c")],  # bzip2
        [(LOCAL, 8, b"\x63"), (CENTRAL, 10, b"\x63")],  # unknown method
        [(CENTRAL, 20, b"\xf0\xff\xff\x7f" * 2)],  # sizes of 2 GiB
        [(CENTRAL, 42, b"\xff\xff\xff\x7f")],  # a member far away
        [(LOCAL, 26, b"\xff\xff")],  # a name over the end
        [(CENTRAL, 6, b"\xff")],  # needs zip of the future
    ],
    ids=lambda changes: "",
)
def test_load_refuses_malformed_frames(tmp_path, changes):
    path = zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER, bytes(24))})
    assert load_arrays(path)["x"].tolist() == [0, 0, 0]
    refused(patched(path, *changes))


def test_load_refuses_duplicate_names(tmp_path):
    path = zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER, bytes(24)), "y.npy": npy_of(HEADER, bytes(24))})
    refused(path.read_bytes().replace(b"y.npy", b"x.npy"))


def test_load_refuses_names_with_a_hidden_end(tmp_path):
    path = zip_of(tmp_path / "a.npz", {"x.npy_rest": npy_of(HEADER, bytes(24))})
    refused(path.read_bytes().replace(b"x.npy_", b"x.npy\0"))


def test_load_refuses_overlapping_members(tmp_path):
    content = npy_of(HEADER, bytes(24))
    path = zip_of(tmp_path / "a.npz", {"x.npy": content, "y.npy": content}, zipfile.ZIP_DEFLATED)
    assert list(load_arrays(path)) == ["x", "y"]
    whole = path.read_bytes()
    place = whole.index(CENTRAL)  # of x.npy, whose compressed bytes now reach to the end of y.npy
    size = struct.pack("<L", place - whole.index(LOCAL) - 35)
    refused(whole[: place + 20] + size + whole[place + 24 :])


def test_load_refuses_one_member_under_many_names(tmp_path):
    path = zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER, bytes(24))})
    content = path.read_bytes()
    start, end = content.index(CENTRAL), content.index(b"PK\5\6")
    table = b"".join(content[start:end].replace(b"x.npy", f"{place:05}".encode()) for place in range(5000))
    frame = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5000, 5000, len(table), start, 0)
    refused(content[:start] + table + frame)


def test_load_refuses_other_compressions(tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER, bytes(24))}, method)
        with pytest.raises(FileFormatError, match="expected stored or deflated members, got method"):
            load_arrays(path)


def test_load_refuses_elements_without_size(tmp_path):
    path = zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER.replace("<f8", "<U0"))})
    with pytest.raises(FileFormatError, match="expected a known dtype"):
        load_arrays(path)


def test_load_refuses_a_bomb_before_unfolding_it(tmp_path):
    header = npy_of(HEADER.replace("<f8", "|u1").replace("3", str(8 << 30)))
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packed.compress(header) + packed.compress(bytes(1 << 20)) + packed.flush()
    path = zip_of(tmp_path / "a.npz", {"x.npy": b""})
    name, size = b"x.npy", len(header) + (8 << 30)
    extra = struct.pack("<HHQQ", 1, 16, size, len(block))
    local = struct.pack("<4s5H3L2H", LOCAL, 45, 0, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF, 5, 20) + name + extra
    central = (
        struct.pack("<4s6H3L5H2L", CENTRAL, 45, 45, 0, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF, 5, 20, 0, 0, 0, 0, 0) + name + extra
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(block), 0)
    path.write_bytes(local + block + central + end)
    with pytest.raises(FileFormatError, match=r"bytes in a file of .* claimed"):
        load_arrays(path)


def test_load_refuses_a_newer_version(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "_VERSION", 2)
    save_arrays(tmp_path / "a.npz", {"x": np.ones(1)})
    monkeypatch.undo()
    with pytest.raises(FileFormatError, match="expected version 1, got 2"):
        load_arrays(tmp_path / "a.npz")
