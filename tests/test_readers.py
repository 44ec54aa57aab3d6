# SPDX-License-Identifier: Apache-2.0
"""IDX and CSV files: exact where the contents are known, strict where a file is not what it claims to be."""

import gzip
import os
import struct

import numpy as np
import pytest

from datasets import shared, write
from dlcore import data
from dlcore.data import read_csv, read_idx
from dlcore.errors import DataError, FileFormatError

# --- IDX


def idx_of(array, code=8):
    array = np.asarray(array)
    return (
        bytes([0, 0, code, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_gives_values_dtype_and_shape(tmp_path, code, dtype, ending):
    array = np.arange(-12, 12).reshape(2, 3, 4).astype(dtype)
    got = read_idx(write(tmp_path / f"a{ending}", idx_of(array, code)))
    assert got.dtype == np.dtype(dtype)
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array)


IDX = idx_of(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        IDX[:3],
        IDX[:4],
        IDX[:11],
        IDX[:-1],
        IDX + b"\0",
        b"\1" + IDX[1:],
        b"\0\0\7" + IDX[3:],
        IDX[:3] + b"\0" + IDX[4:],
        IDX[:3] + b"\xff" + IDX[4:],
        b"\0\0\x08\2" + struct.pack(">2I", 1 << 31, 1 << 31) + bytes(12),
        b"\0\0\x08\2" + struct.pack(">2I", 0, 1 << 31) + bytes(12),
        b"\x93NUMPY" + bytes(50),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_refuses_malformed_files(tmp_path, content, ending):
    with pytest.raises(FileFormatError, match=r"^read_idx\('.*a(\.gz)?'\): expected .*, got "):
        read_idx(write(tmp_path / f"a{ending}", content))


def test_gzip_refuses_every_truncation_and_flipped_data(tmp_path):
    path = tmp_path / "a.gz"
    values = np.arange(100, dtype=np.uint8)
    content = gzip.compress(idx_of(values), mtime=0)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            read_idx(path)
    harmless = 0
    for place in range(10, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(read_idx(path), values)  # the bits that fill up the last byte
            harmless += 1
        except FileFormatError:
            pass
    assert harmless <= 1


def test_gzip_refuses_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("dlcore.io.archive._FREE_EXPANSION", 1 << 16)
    path = write(tmp_path / "a.gz", bytes(1 << 22))
    with pytest.raises(FileFormatError, match="after unzipping"):
        read_idx(path)


def test_gzip_ending_without_gzip_data_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_text("x,y\n1,2\n")
    with pytest.raises(FileFormatError, match="expected gzip data"):
        read_csv(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("read", [read_csv, read_idx])
def test_readers_refuse_folders_devices_and_missing_files(tmp_path, read):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(FileFormatError, match="expected a file, got a"):
            read(path)
    with pytest.raises(FileNotFoundError, match="expected a readable file"):
        read(tmp_path / "absent")


def four_files(folder, images=None, labels=None, ending=".gz"):
    images = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3) if images is None else images
    labels = np.arange(5, dtype=np.uint8) if labels is None else labels
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        write(folder / f"{part}-images-idx3-ubyte{ending}", idx_of(images))
        write(folder / f"{part}-labels-idx1-ubyte{ending}", idx_of(labels))
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(("reader", "name"), [(data.mnist, "mnist"), (data.fashion_mnist, "fashion-mnist")])
def test_mnist_reads_four_files_of_a_folder(tmp_path, ending, reader, name):
    folder = four_files(tmp_path / name, ending=ending)
    for place in (folder, tmp_path):
        got = reader(place)
        assert got.x.dtype == np.uint8
        assert got.x.tolist() == np.arange(30).reshape(5, 6).tolist()
        assert got.y.dtype == np.int32
        assert got.y_test.tolist() == [0, 1, 2, 3, 4]
        assert got.image == (2, 3, 1)
        assert len(got.classes) == 10
        assert got.name == name


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((5, 6), np.uint8), None),
        (np.zeros((4, 2, 3), np.uint8), None),
        (None, np.full(5, 10, np.uint8)),
        (np.zeros((0, 2, 3), np.uint8), np.zeros(0, np.uint8)),
        (None, np.zeros((5, 1), np.uint8)),
    ],
)
def test_mnist_refuses_other_contents(tmp_path, images, labels):
    with pytest.raises(DataError, match=r"^mnist: train: expected"):
        data.mnist(four_files(tmp_path / "mnist", images, labels))


def test_mnist_names_the_missing_file(tmp_path):
    os.remove(four_files(tmp_path / "mnist") / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(FileNotFoundError, match=r"^mnist: expected t10k-labels-idx1-ubyte.gz in the folder"):
        data.mnist(tmp_path)


def test_mnist_has_the_known_counts():
    got = data.mnist(shared("mnist"))
    assert np.bincount(got.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(got.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert got.x.shape == (60_000, 784)
    assert got.x_test.shape == (10_000, 784)
    assert got.image == (28, 28, 1)
    scaler = data.Standardize("channel").fit(got.x)
    assert round(scaler.mean[0] / 255, 4) == 0.1307
    assert round(1 / scaler.scale[0] / 255, 4) == 0.3081


def test_fashion_mnist_has_the_known_counts():
    got = data.fashion_mnist(shared("fashion-mnist"))
    assert np.bincount(got.y).tolist() == [6000] * 10
    assert np.bincount(got.y_test).tolist() == [1000] * 10
    assert got.classes[9] == "Ankle boot"


def test_digits_are_the_known_ones():
    got = data.digits()
    assert got.x.shape == (1797, 64)
    assert got.x.dtype == np.uint8
    assert got.x.flags.c_contiguous
    assert got.x.max() == 16
    assert int(got.x.sum(dtype=np.int64)) == 561718
    assert np.bincount(got.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert got.y.dtype == np.int32
    assert got.image == (8, 8, 1)
    assert got.classes == list(range(10))


# --- CSV


def test_csv_reads_numbers_text_and_missing_values(tmp_path):
    text = 'n,t,"a, b"\n 1 ,x, 1\n?,"y ""z""\nw",2\n-2.5e3, NA ,"3"\n nan,None,\n'
    table = read_csv(write(tmp_path / "a.csv", text))
    assert table.kinds == {"n": "number", "t": "text", "a, b": "number"}
    np.testing.assert_array_equal(table.columns["n"], [1, np.nan, -2500, np.nan])
    assert table.columns["t"].labels == ("x", 'y "z"\nw')
    assert table.columns["t"].codes.tolist() == [0, 1, -1, -1]
    np.testing.assert_array_equal(table.columns["a, b"], [1, 2, 3, np.nan])


@pytest.mark.parametrize("field", ["", "?", "NA", "na", "NaN", "nan", "NULL", "null", "None", "none"])
def test_csv_missing_values_in_any_case(tmp_path, field):
    table = read_csv(write(tmp_path / "a.csv", f"x,t\n1,a\n{field},{field}\n"))
    assert np.isnan(table.columns["x"][1])
    assert table.columns["t"].codes.tolist() == [0, -1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_reads_any_line_ends_and_byte_order_marks(tmp_path, line_end, mark, name):
    table = read_csv(write(tmp_path / name, mark + line_end.join(["x,größe", "1,ß", "", "2,é", ""])))
    assert table.columns["x"].tolist() == [1, 2]
    assert table.columns["größe"].labels == ("ß", "é")


@pytest.mark.parametrize("field", ["1_000", "0x10", "1,5", "12 34", "--1", "1e", "٣ x", "yes"])
def test_csv_takes_other_texts_for_text(tmp_path, field):
    assert read_csv(write(tmp_path / "a.csv", f'x,y\n1,1\n"{field}",2\n')).kinds["x"] == "text"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x,y\n1,2\n3\n", "expected 2 fields as in the header, got 1 in line 3"),
        ('x,y\n"a\nb",2\n3,4,5\n', "expected 2 fields as in the header, got 3 in line 4"),
        ("", "a header and at least one row"),
        ("\n\n", "a header and at least one row"),
        ("x,y\n", "a header and at least one row"),
        ("x,\n1,2\n", "expected a name for column 2, got none; is it an index"),
        ("x,x\n1,2\n", "different column names, got 'x' twice"),
        ("1,2\n3,4\n", "a header line with the columns' names, got numbers"),
        ("x;y\n1;2\n", "separated by commas"),
        ("x\ty\n1\t2\n", "separated by commas"),
        ('x,y\n"1,2\n', "well-formed CSV"),
        ('x,y\n"1"a,2\n', "well-formed CSV"),
        ("x,y\n1,\0\n", "expected text, got a zero byte in line 2"),
        ("x,y\n" + "a" * 200_000 + ",1\n", "field larger than field limit"),
    ],
)
def test_csv_refuses_malformed_files(tmp_path, text, what):
    with pytest.raises(FileFormatError) as caught:
        read_csv(write(tmp_path / "a.csv", text))
    assert what in str(caught.value)
    assert str(caught.value).startswith(f"read_csv('{tmp_path}/a.csv'): expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["x,y\n1,ä\n".encode("latin-1"), "x,y\n1,2\n".encode("utf-16"), b"x,y\n1,\xff\n"])
def test_csv_refuses_other_encodings(tmp_path, content):
    with pytest.raises(FileFormatError, match=r"expected text in UTF-8, got byte 0x.. in line [12]"):
        read_csv(write(tmp_path / "a.csv", content))


def test_csv_with_kinds_reads_these_columns_only(tmp_path):
    path = write(tmp_path / "a.csv", "c,extra,a\n01,q,5\n1,r,6\n")
    table = read_csv(path, kinds={"a": "number", "c": "text"})
    assert list(table.columns) == ["a", "c"]
    assert table.columns["c"].labels == ("01", "1")
    with pytest.raises(DataError, match=r"expected a column 'A', got columns 'c', 'extra', 'a'; did you mean 'a'?"):
        read_csv(path, kinds={"A": "number"})
    with pytest.raises(DataError, match="expected numbers in column 'extra', got 'q' in row 1"):
        read_csv(path, kinds={"extra": "number"})


def test_csv_of_adult_has_the_known_contents():
    train, test = (read_csv(shared("adult") / f"adult-{part}.csv.gz") for part in ("train", "test"))
    assert len(train) == 32_561
    assert len(test) == 16_281
    assert train.kinds == test.kinds
    numbers = [name for name, kind in train.kinds.items() if kind == "number"]
    assert numbers == ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    missing = np.any([train.columns[name].codes < 0 for name in ("workclass", "occupation", "native-country")], axis=0)
    assert missing.sum() == 2399
    assert all((train.columns[name].codes >= 0).all() for name in ("race", "sex", "income"))
