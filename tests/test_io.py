# SPDX-License-Identifier: Apache-2.0
"""Saving and loading arrays: what is written comes back, nothing altered is believed, nothing is lost on the way."""

import doctest
import io as stdio
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from archives import HEADER, npy_of, refused, zip_of
from dlcore import errors, io
from dlcore.errors import DataError, FileFormatError
from dlcore.io import archive, atomic, load_arrays, npy, save_arrays

ARRAYS = {
    "0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "counter": np.array(7),
    "name": np.array(["a", "bc"]),
}
TEXT = {"layers": [2, 3], "lr": 0.1, "note": "größer"}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.npz"
    save_arrays(path, ARRAYS, text=TEXT)
    return path


def assert_same(got, want):
    assert list(got) == list(want)
    for name, array in want.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert got[name].tobytes("A") == array.tobytes("A"), name
        assert got[name].flags.writeable, name


@pytest.mark.parametrize("module", [errors, io, atomic, npy, archive], ids=lambda module: module.__name__)
def test_examples_of_io_hold(module, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert doctest.testmod(module).failed == 0


# --- what is saved comes back


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c8", "<c16", "S3", "<U5", ">U2"]
)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 3), (0, 5), (2, 0, 3), (1, 1, 1, 1, 1)])
def test_save_keeps_dtype_shape_and_bytes(tmp_path, dtype, shape):
    values = np.arange(int(np.prod(shape))).reshape(shape) % 2
    array = np.asarray(values).astype(dtype)
    save_arrays(tmp_path / "a.npz", {"x": array})
    assert_same(load_arrays(tmp_path / "a.npz"), {"x": array})


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a[::2],
        lambda a: a[:, ::-1],
        lambda a: a.T,
        lambda a: np.broadcast_to(a[0], (5, 8)),
        lambda a: a[1:2, ::3],
        lambda a: np.asfortranarray(a),
        lambda a: a.view(np.matrix),
        lambda a: a[:1].reshape(-1)[::8],
    ],
)
def test_save_takes_any_strides(tmp_path, make):
    array = make(np.arange(48.0).reshape(6, 8))
    array.flags.writeable = False
    save_arrays(tmp_path / "a.npz", {"x": array})
    loaded = load_arrays(tmp_path / "a.npz")["x"]
    np.testing.assert_array_equal(loaded, np.asarray(array))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["x"], np.asarray(array))


def test_save_keeps_fortran_order(tmp_path):
    save_arrays(tmp_path / "a.npz", {"x": np.asfortranarray(np.ones((3, 4)))})
    assert load_arrays(tmp_path / "a.npz")["x"].flags.f_contiguous


def test_save_and_load_give_text_and_names(saved):
    loaded = load_arrays(saved)
    assert_same(loaded, ARRAYS)
    assert loaded.text == TEXT


def test_saved_file_is_read_by_numpy_and_zipfile(saved):
    with np.load(saved, allow_pickle=False) as loaded:
        assert set(loaded.files) == {*ARRAYS, "meta.json"}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded[name], array)
    with zipfile.ZipFile(saved) as opened:
        assert opened.testzip() is None
        assert all(info.compress_type == zipfile.ZIP_STORED for info in opened.infolist())


def test_saved_file_depends_on_its_contents_alone(saved, tmp_path):
    save_arrays(tmp_path / "again.npz", ARRAYS, text=TEXT)
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("names", [[], ["a/b", "weights/größe", " ", "x" * 900, "a.b[0]"]])
def test_save_takes_names(tmp_path, names):
    arrays = {name: np.array([place]) for place, name in enumerate(names)}
    save_arrays(tmp_path / "a.npz", arrays)
    assert_same(load_arrays(tmp_path / "a.npz"), arrays)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_load_reads_archives_of_numpy(tmp_path, write):
    arrays = {"x": np.arange(12.0).reshape(3, 4), "größe": np.asfortranarray(np.eye(3, 2)), "z": np.array(True)}
    write(tmp_path / "a.npz", **arrays)
    loaded = load_arrays(tmp_path / "a.npz")
    assert_same(loaded, arrays)
    assert loaded.text is None


def test_load_reads_headers_of_other_writers(tmp_path):
    payload = np.arange(6, dtype="<i4").tobytes()
    headers = {
        "a": "{'shape':(2,3),'fortran_order':False,'descr':'<i4'}\n",
        "b": "{ 'descr' : '<i4', 'fortran_order': True, 'shape': (2 , 3,) , }",
    }
    loaded = load_arrays(
        zip_of(tmp_path / "a.npz", {f"{name}.npy": npy_of(header, payload) for name, header in headers.items()})
    )
    assert loaded["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["b"].tolist() == [[0, 2, 4], [1, 3, 5]]


# --- what cannot be saved


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.array([{}]), "object array"),
        (np.array([(1, 2.0)], "i4,f4"), "array of shape"),
        ([[1], [2, 3]], "a list of 2"),
        (np.ma.masked_array([1, 2], [True, False]), "a masked array"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (None, "object array"),
    ],
)
def test_save_refuses_values(tmp_path, value, got):
    with pytest.raises(DataError, match=f"^save_arrays: expected .*'x'.*, got .*{got}"):
        save_arrays(tmp_path / "a.npz", {"x": value})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [float("nan"), 1, None, b"x", ("x",)])
def test_save_refuses_names_of_other_types(tmp_path, name):
    with pytest.raises(TypeError, match=r"^save_arrays: expected names of type str, got"):
        save_arrays(tmp_path / "a.npz", {name: np.ones(1)})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "a/../b",
        "/etc/x",
        "a//b",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        "meta.json",
        "x.npy",
        "x" * 901,
        "\ud800",
        ".",
    ],
)
def test_save_refuses_names(tmp_path, name):
    with pytest.raises(DataError, match=r"^save_arrays: expected printable names") as caught:
        save_arrays(tmp_path / "a.npz", {name: np.ones(1)})
    assert "\n" not in str(caught.value)


def recursive():
    text = {}
    text["self"] = text
    return text


@pytest.mark.parametrize(
    "text",
    [
        {"x": float("nan")},
        {"x": np.float32(1)},
        {1: 2},
        {"a": [{None: 1}]},
        {"x": {1, 2}},
        recursive(),
        {"x": 10**5000},
    ],
    ids=lambda text: "",
)
def test_save_refuses_text_that_json_would_alter(tmp_path, text):
    with pytest.raises(DataError, match=r"^save_arrays: expected text that JSON can hold, got"):
        save_arrays(tmp_path / "a.npz", {}, text=text)


@pytest.mark.parametrize(("arrays", "text"), [([1, 2], None), (None, None), ({}, [1]), ({}, "text")])
def test_save_refuses_other_containers(tmp_path, arrays, text):
    with pytest.raises(TypeError, match=r"^save_arrays: expected"):
        save_arrays(tmp_path / "a.npz", arrays, text=text)


# --- altered files


def test_load_refuses_every_flipped_bit(saved):
    content = saved.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            refused(altered)


def test_load_refuses_every_truncation_and_extension(saved, tmp_path):
    content = saved.read_bytes()
    for length in range(len(content)):
        refused(content[:length])
    for extra in (
        b"\0",
        b"PK\5\6" + bytes(18),
        content,
        zip_of(tmp_path / "a.npz", {"x.npy": npy_of(HEADER, bytes(24))}).read_bytes(),
    ):
        refused(content + extra)
        refused(extra + content)
    assert io._load(stdio.BytesIO(content), "load_arrays").text == TEXT


def test_load_refuses_deleted_inserted_and_replaced_bytes(saved):
    content = saved.read_bytes()
    for place in range(0, len(content), 3):
        refused(content[:place] + content[place + 1 :])
        refused(content[:place] + b"\0" + content[place:])
        if any(content[place : place + 8]):
            refused(content[:place] + bytes(len(content[place : place + 8])) + content[place + 8 :])


def test_load_refuses_splices_of_two_files(saved, tmp_path):
    first = saved.read_bytes()
    save_arrays(tmp_path / "other.npz", {**ARRAYS, "0.weight": -ARRAYS["0.weight"] - 1}, text=TEXT)
    second = (tmp_path / "other.npz").read_bytes()
    assert len(first) == len(second)
    for place in range(len(first)):
        spliced = first[:place] + second[place:]
        if spliced not in (first, second):
            refused(spliced)


def framed(members):
    """The file that save_arrays would write around these members: name -> bytes."""
    fields = [(name.encode(), archive.crc32([content]), len(content)) for name, content in members.items()]
    parts = [archive.local_header(*field) + content for field, content in zip(fields, members.values(), strict=True)]
    return b"".join(parts) + archive.directory(fields)


def test_load_refuses_members_that_were_exchanged_or_renamed(tmp_path):
    save_arrays(tmp_path / "a.npz", {"x": np.zeros(2), "y": np.ones(2)})
    with zipfile.ZipFile(tmp_path / "a.npz") as opened:
        members = {info.filename: opened.read(info) for info in opened.infolist()}
    assert framed(members) == (tmp_path / "a.npz").read_bytes()
    refused(framed({**members, "x.npy": members["y.npy"], "y.npy": members["x.npy"]}))
    refused(framed({name.replace("x", "z"): content for name, content in members.items()}))
    refused(framed({name: members[name] for name in ("meta.json", "x.npy")}))
    refused(framed({name: members[name] for name in ("meta.json", "y.npy", "x.npy")}))
    refused(framed({name: members[name] for name in ("x.npy", "y.npy", "meta.json")}))
    refused(framed({**members, "meta.json": b"[]"}))
    refused(framed({**members, "meta.json": members["meta.json"].replace(b"null", b"[1]")}))
    refused(framed({**members, "meta.json": b"[" * 100_000}))


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_load_never_alters_archives_of_numpy(tmp_path, write):
    arrays = {"größe": np.arange(5, dtype=np.int16), "y": np.array([True, False])}
    path = tmp_path / "a.npz"
    write(path, **arrays)
    content, refusals = path.read_bytes(), 0
    for place in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            try:
                loaded = io._load(stdio.BytesIO(altered), "load_arrays")
            except FileFormatError:
                refusals += 1
            else:
                assert_same(loaded, arrays)
    assert refusals > 4 * len(content)
    for length in range(len(content)):
        refused(content[:length])


@pytest.mark.parametrize("seed", range(20))
def test_load_survives_random_bytes(saved, seed):
    random = np.random.default_rng(seed)
    content = bytearray(saved.read_bytes())
    for _ in range(50):
        altered = content.copy()
        for place in random.integers(0, len(content), random.integers(1, 20)):
            altered[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.integers(256)])
        if altered != content:
            refused(altered)


# --- messages


def test_messages_are_one_line_of_one_form():
    assert errors.expected("a", "b", "c\nd", hint="e") == "a: expected b, got c d; e"
    assert errors.suggest("Rely", ["relu", "gelu"]) == "; did you mean 'relu'?"
    assert errors.suggest(3, ["relu"]) == ""
    assert errors.suggest("x", []) == ""
    assert issubclass(FileFormatError, DataError)
    assert issubclass(DataError, ValueError)


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Hostile(), "an object of type Hostile"),
        (10**5000, "an int of 16610 bits"),
        ("a\n" * 100, None),
        (b"\0" * 100, None),
        ((), "a tuple of 0"),
        (np.float32(1.5), "1.5"),
        (np.array(3), "int64 array of shape ()"),
        (Path("x"), "'x'"),
        (float("nan"), "nan"),
    ],
    ids=lambda value: "",
)
def test_describe_is_short_and_never_fails(value, text):
    got = errors.describe(value)
    assert "\n" not in got
    assert len(got) < 80
    assert text is None or got == text
