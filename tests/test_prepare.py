# SPDX-License-Identifier: Apache-2.0
"""Loading a source and making it ready for a net: what is learned from which rows, and rows for a net that exists."""

import json

import numpy as np
import pytest

from datasets import shared, text_column, write
from dlcore import data
from dlcore.data import Dataset, Schema, Table, load, prepare, split
from dlcore.errors import DataError, FileFormatError


@pytest.mark.parametrize("keys", [("x", "y"), ("X", "y"), ("X", "Y"), ("x_train", "y_train"), ("X_train", "y_train")])
def test_load_npz_takes_the_usual_keys(tmp_path, keys):
    x = np.arange(8, dtype=np.uint8).reshape(4, 2)
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (x, np.array(["b", "a", "a", "b"])), strict=True)), other=np.zeros(1))
    got = load(tmp_path / "a.npz")
    assert got.name == "a.npz"
    assert got.x.dtype == np.uint8
    assert got.y.tolist() == [1, 0, 0, 1]
    assert got.classes == ["a", "b"]
    assert got.y_test is None


def test_load_npz_takes_a_test_part(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), y=[0.5, 1, 2, 3], x_test=np.ones((1, 2)), y_test=[9])
    np.savez(tmp_path / "b.npz", x=np.zeros((4, 2)), y=[0.5, 1, 2, 3])
    assert load(tmp_path / "a.npz").y_test.tolist() == [9]
    assert load(tmp_path / "b.npz", test=tmp_path / "b.npz").y_test.tolist() == [0.5, 1, 2, 3]
    with pytest.raises(DataError, match=r"expected no test file, as .* holds x_test"):
        load(tmp_path / "a.npz", test=tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("arrays", "got"),
    [
        ({"a": [1], "b": [2]}, "arrays 'a', 'b'"),
        ({"x": [1]}, "arrays 'x'"),
        ({"x": [1], "X": [1], "y": [1]}, "arrays 'x', 'X', 'y'"),
    ],
)
def test_load_npz_lists_the_keys_found(tmp_path, arrays, got):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FileFormatError, match=f"expected one array named .*, got {got}"):
        load(tmp_path / "a.npz")


def test_load_npz_never_unpickles(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}]), y=np.array([1]), allow_pickle=True)
    with pytest.raises(FileFormatError, match="expected booleans, numbers or text"):
        load(tmp_path / "a.npz")


PETS = "age,kind,weight\n1,cat,2.5\n2,dog,9\n?,cat,3\n4,dog,8.5\n5,cat,4\n6,dog,7\n"


def test_load_csv_takes_the_last_or_the_named_column_as_target(tmp_path):
    path = write(tmp_path / "pets.csv", PETS)
    weights = load(path)
    assert weights.task == "regression"
    assert weights.target == "weight"
    assert weights.features == ["age", "kind"]
    kinds = load(path, target="kind")
    assert kinds.classes == ["cat", "dog"]
    assert kinds.y.tolist() == [0, 1] * 3
    assert list(kinds.x.columns) == ["age", "weight"]
    with pytest.raises(DataError, match=r"expected a column of the file as target, got 'Kind'; did you mean 'kind'?"):
        load(path, target="Kind")
    with pytest.raises(DataError, match="expected a target in every row, got none in row 3"):
        load(path, target="age")


def test_load_csv_test_file_goes_by_the_names_of_columns(tmp_path):
    train = write(tmp_path / "train.csv", PETS)
    test = write(tmp_path / "test.csv", "note,weight,kind,age\nx,5,dog,7\n")
    got = load(train, test=test, target="kind")
    assert got.y_test.tolist() == [1]
    assert got.x_test.columns["age"].tolist() == [7]
    for text, what in (
        ("age,kind\n1,cat\n", "a column 'weight'"),
        ("age,kind,weight\n1,cow,2\n", "one of the labels 'cat', 'dog', got 'cow' in row 1"),
        ("age,kind,weight\n1,,2\n", "a target in every row"),
        ("age,kind,weight\nold,cat,2\n", "numbers in column 'age', got 'old' in row 1"),
    ):
        with pytest.raises(DataError, match=f"expected {what}"):
            load(train, test=write(tmp_path / "bad.csv", text), target="kind")


def test_load_csv_refuses_infinities_but_not_missing_values(tmp_path):
    path = write(tmp_path / "a.csv", "x,y\n1,0\ninf,1\n,0\n1e39,1\n")
    with pytest.raises(DataError, match=r"expected finite values .* in column 'x', got inf in row 2 .2 in all."):
        load(path)
    assert len(load(path, allow_nonfinite=True).x) == 4


def test_load_csv_refuses_a_lonely_column(tmp_path):
    with pytest.raises(DataError, match="expected a target and at least one other column, got only 'y'"):
        load(write(tmp_path / "a.csv", "y\n1\n2\n"))


@pytest.mark.parametrize(
    ("source", "options", "what"),
    [
        ("digit", {}, "did you mean 'digits'"),
        ("data.txt", {}, r"or a \.csv, \.csv\.gz or \.npz file, got 'data.txt'"),
        (None, {}, "got None"),
        (3, {}, "got 3"),
        ("mnist", {}, "expected a data_dir with mnist, got None"),
        ("digits", {"data_dir": "x"}, "expected no data_dir with digits"),
        ("digits", {"test": "a.csv"}, "expected no test file with digits"),
        ("a.csv", {"data_dir": "x"}, "expected no data_dir with a.csv"),
        ("a.csv", {"test": "b.npz"}, "expected a .csv test file with a.csv"),
        ("a.npz", {"target": "y"}, "expected no target column"),
        ("a.csv", {"test": "b"}, "got 'b'"),
    ],
)
def test_load_refuses_wrong_calls_before_any_file_is_opened(source, options, what):
    with pytest.raises(ValueError, match=f"^load: expected .*{what}|^load: {what}") as caught:
        load(source, **options)
    assert not isinstance(caught.value, DataError)


def test_load_task_overrides():
    assert load("digits", task="regression").y.dtype == np.float32
    with pytest.raises(DataError, match="did you mean 'regression'"):
        load("digits", task="regress")


# --- prepare


def test_prepare_holds_out_a_fifth_and_a_tenth():
    digits = data.digits()
    first, again, other = (prepare(digits, seed) for seed in (0, 0, 1))
    assert [len(y) for _, y in (first.train, first.validation, first.test)] == [1294, 144, 359]
    for one, two in zip((first.train, first.validation), (again.train, again.validation), strict=True):
        np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(first.test[0], other.test[0])
    assert first.validation[0].tolist() != other.validation[0].tolist()
    rows = {row.tobytes() for row in digits.x}
    parts = [{row.tobytes() for row in x} for x, _ in (first.train, first.validation, first.test)]
    assert len(rows) == 1797
    assert sum(map(len, parts)) == 1797
    assert set.union(*parts) == rows
    assert np.bincount(first.test[1]).tolist() == pytest.approx(0.2 * np.bincount(digits.y), abs=1)
    assert first.train[0].dtype == np.uint8


def test_prepare_keeps_a_test_part_of_its_own(tmp_path):
    digits = data.digits()
    given = Dataset.from_arrays("mine", digits.x[:1000], digits.y[:1000], digits.x[1000:], digits.y[1000:])
    got = prepare(given, 5)
    assert got.test[0] is given.x_test
    assert len(got.validation[1]) == 100
    assert len(got.train[1]) == 900


def test_prepare_learns_the_encoding_from_training_rows_alone():
    rows = 400
    random = np.random.default_rng(0)
    values = random.normal(size=rows)
    names = np.array(["common"] * rows, object)
    y = np.arange(rows) % 2
    plain = Dataset.from_arrays("mine", Table({"n": values, "t": text_column(*names)}), y)
    # Outliers and a category only in rows that are not for training must not be seen.
    test_rows = split(plain.y, 0.2, 0, True)[1]
    rest = np.setdiff1d(np.arange(rows), test_rows)
    validation_rows = rest[split(plain.y[rest], 0.1, 9, True)[1]]
    values, names = values.copy(), names.copy()
    for part in (test_rows, validation_rows):
        values[part], names[part] = 1e6, "rare"
    values[validation_rows[0]] = np.nan
    got = prepare(Dataset.from_arrays("mine", Table({"n": values, "t": text_column(*names)}), y), 9)
    assert got.schema.features == ["n", "t=common"]
    train_rows = np.setdiff1d(rest, validation_rows)
    np.testing.assert_array_equal(got.train[0][:, 0], values[train_rows].astype(np.float32))
    assert got.test[0].tolist() == [[1e6, 0]] * len(test_rows)
    assert got.validation[0][0, 0] == pytest.approx(values[train_rows].mean())


def test_prepare_of_few_rows():
    got = prepare(Dataset.from_arrays("mine", np.eye(5), [0.5, 1, 2, 3, 4]))
    assert [len(y) for _, y in (got.train, got.validation, got.test)] == [3, 1, 1]
    with pytest.raises(DataError, match="expected at least 2 rows"):
        prepare(Dataset.from_arrays("mine", np.eye(2), [0.5, 1]))
    with pytest.raises(DataError, match="expected a class with at least 2 rows"):
        prepare(Dataset.from_arrays("mine", np.eye(3), [0, 1, 1]))


def test_schema_survives_json(tmp_path):
    path = write(tmp_path / "pets.csv", PETS)
    for dataset in (load(path, target="kind"), load(path), data.digits()):
        schema = prepare(dataset).schema
        again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
        assert again.to_dict() == schema.to_dict()
        assert (again.image, again.classes, again.task, again.width) == (
            schema.image,
            schema.classes,
            schema.task,
            schema.width,
        )


SCHEMA = {
    "task": "classification",
    "width": 3,
    "classes": [0, 1],
    "features": None,
    "image": None,
    "target": None,
    "encoder": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "x"},
        {"width": 0},
        {"width": True},
        {"width": 1.5},
        {"classes": None},
        {"classes": [1]},
        {"classes": [None, 1]},
        {"task": "regression"},
        {"image": [1, 2]},
        {"image": "abc"},
        {"encoder": {}},
    ],
)
def test_schema_refuses_damaged_states(change):
    Schema.from_dict(SCHEMA)
    with pytest.raises(DataError, match="from_dict: expected the state of"):
        Schema.from_dict({**SCHEMA, **change})


def test_prediction_reads_the_columns_of_training(tmp_path):
    path = write(tmp_path / "pets.csv", PETS)
    schema = prepare(load(path, target="kind")).schema
    new = write(tmp_path / "new.csv", "extra,weight,age\nq,3,\nr,4,5\n")
    x = data.load_features(new, Schema.from_dict(schema.to_dict()))
    assert x.shape == (2, schema.width)
    assert x[:, schema.features.index("weight")].tolist() == [3, 4]
    with pytest.raises(DataError, match="expected a column 'age', got columns 'weight'"):
        data.load_features(write(tmp_path / "bad.csv", "weight\n1\n"), schema)
    with pytest.raises(DataError, match="expected numbers in column 'age', got 'old' in row 1"):
        data.load_features(write(tmp_path / "bad.csv", "weight,age\n1,old\n"), schema)
    with pytest.raises(DataError, match="expected finite values"):
        data.load_features(write(tmp_path / "bad.csv", "weight,age\n1,inf\n"), schema)


def test_evaluation_encodes_with_the_classes_of_training(tmp_path):
    path = write(tmp_path / "pets.csv", PETS)
    schema = prepare(load(path, target="kind")).schema
    x, y = data.load_labelled(write(tmp_path / "dogs.csv", "age,kind,weight\n1,dog,9\n2,dog,9\n"), schema)
    assert y.tolist() == [1, 1]
    assert y.dtype == np.int32
    assert len(x) == 2
    with pytest.raises(DataError, match="expected one of the labels 'cat', 'dog', got 'cow'"):
        data.load_labelled(write(tmp_path / "cow.csv", "age,kind,weight\n1,cow,9\n"), schema)
    with pytest.raises(DataError, match="expected a column 'kind'"):
        data.load_labelled(write(tmp_path / "none.csv", "age,weight\n1,9\n"), schema)


def test_evaluation_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(10), y=np.arange(10) % 2 + 5)
    np.savez(tmp_path / "x.npz", x=np.ones((2, 10)))
    np.savez(tmp_path / "wide.npz", x=np.ones((2, 11)), y=[5, 6])
    schema = prepare(load(tmp_path / "a.npz")).schema
    assert data.load_labelled(tmp_path / "a.npz", schema)[1].tolist() == [0, 1] * 5
    assert data.load_features(tmp_path / "x.npz", schema).shape == (2, 10)
    for call, source, what in (
        (data.load_features, "wide.npz", "expected 10 features, got 11"),
        (data.load_labelled, "x.npz", "expected one array named y"),
    ):
        with pytest.raises(DataError, match=what):
            call(tmp_path / source, schema)
    with pytest.raises(DataError, match="got a CSV file"):
        data.load_features(write(tmp_path / "pets.csv", PETS), schema)
    with pytest.raises(DataError, match="expected a CSV file with the columns of training"):
        data.load_features(tmp_path / "a.npz", prepare(load(tmp_path / "pets.csv", target="kind")).schema)
    with pytest.raises(DataError, match="the classes that the net was trained with"):
        data.load_labelled("digits", schema)


def test_evaluation_of_digits_is_on_the_held_out_fifth():
    prepared = prepare(data.digits(), seed=4)
    x, y = data.load_labelled("digits", prepared.schema)
    np.testing.assert_array_equal(x, prepared.test[0])
    np.testing.assert_array_equal(y, prepared.test[1])


def test_adult_is_prepared_as_it_comes():
    adult = shared("adult")
    got = prepare(load(adult / "adult-train.csv.gz", test=adult / "adult-test.csv.gz", target="income"))
    assert got.schema.classes == ["<=50K", ">50K"]
    assert got.schema.encoder.ignored == []
    assert [len(y) for _, y in (got.train, got.validation, got.test)] == [29_305, 3256, 16_281]
    assert {"workclass missing", "occupation missing", "native-country missing", "sex=Male"} < set(got.schema.features)
    assert got.test[1].sum() == 3846
    assert got.train[1].mean() == pytest.approx(0.2408, abs=1e-4)
    texts = sum(kind == "text" for kind in got.schema.encoder.kinds.values())
    one_hot = [place for place, name in enumerate(got.schema.features) if "=" in name or name.endswith("missing")]
    np.testing.assert_array_equal(got.train[0][:, one_hot].sum(1), texts)


def test_california_and_covertype_follow_the_rules():
    numeric = load(shared("california-housing") / "california_housing_numeric.csv.gz", target="target")
    assert numeric.task == "regression"
    assert len(numeric.x) == 20_640
    assert numeric.y.dtype == np.float32
    raw = prepare(load(shared("california-housing") / "housing.csv.gz", target="median_house_value"))
    assert "total_bedrooms missing" in raw.schema.features
    assert "ocean_proximity=ISLAND" in raw.schema.features
    cover = load(shared("covertype") / "covertype-15120.csv.gz")
    assert cover.classes == [1, 2, 3, 4, 5, 6, 7]
    assert np.bincount(cover.y).tolist() == [2160] * 7
