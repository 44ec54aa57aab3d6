# SPDX-License-Identifier: Apache-2.0
"""What arrays must satisfy to be a data set: tasks, labels, finite values, and splits that anyone can repeat."""

import doctest
import importlib
import json

import numpy as np
import pytest

from dlcore import data
from dlcore.data import Dataset, split
from dlcore.data.checks import check_finite
from dlcore.data.task import class_labels, encode_labels
from dlcore.errors import DataError

MODULES = ["reading", *data._MODULES]


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_data_hold(module, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert doctest.testmod(importlib.import_module(f"dlcore.data.{module}")).failed == 0


def test_every_public_name_is_found():
    assert sorted(name for names in data._MODULES.values() for name in names) == sorted(data.__all__) == dir(data)
    for name in data.__all__:
        found = getattr(data, name)
        assert callable(found) or name == "preprocess"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        data.nothing  # noqa: B018


# --- tasks, labels, finite values


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b"], "classification"),
        ([True, False], "classification"),
        (np.arange(50), "classification"),
        (np.arange(51), "regression"),
        (np.arange(50.0), "classification"),
        ([0.5, 1], "regression"),
        ([np.nan, 1.0], "regression"),
        (np.zeros((4, 2)), "regression"),
        (np.array([1, 2], "u1"), "classification"),
    ],
)
def test_task_follows_from_the_target(y, task):
    assert data.infer_task(np.array(y)) == task


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array(["b", "a", "b", "A"]), ["A", "a", "b"]),
        (np.array([10, 9, 10]), [9, 10]),
        (np.array([2.0, -1.0]), [-1, 2]),
        (np.array([True, False]), [False, True]),
    ],
)
def test_classes_are_sorted_labels(y, classes):
    got = class_labels("t", y)
    assert got == classes
    assert [type(label) for label in got] == [type(label) for label in classes]
    assert json.dumps(got)
    assert [classes[code] for code in encode_labels("t", y, classes)] == y.tolist()


@pytest.mark.parametrize(
    ("y", "what"),
    [
        (np.array(["a", "a"]), "at least 2 classes, got only 'a'"),
        (np.array([1.5, 2.0]), "text, booleans or integers"),
        (np.zeros((3, 2)), "text, booleans or integers"),
        (np.array(list("abc")), "more than one row"),
    ],
)
def test_classes_refuse_other_targets(y, what):
    with pytest.raises(DataError, match=f"^t: expected .*{what}"):
        class_labels("t", y)


@pytest.mark.parametrize(
    ("y", "classes", "what"),
    [
        (
            np.array(["yes", "noo"]),
            ["no", "yes"],
            "expected one of the labels 'no', 'yes', got 'noo' in row 2; did you mean 'no'?",
        ),
        (np.array([0, 3, 3]), [0, 1], "got 3 in row 2"),
        (np.array([0.5]), [0, 1], "got 0.5 in row 1"),
        (np.array([1.0, np.nan]), [0, 1], "got nan in row 2"),
        (np.array([0]), ["a", "b"], "got int64 array"),
        (np.array(["0"]), [0, 1], "got <U1 array"),
    ],
)
def test_labels_that_training_did_not_have_are_refused(y, classes, what):
    with pytest.raises(DataError) as caught:
        encode_labels("t", y, classes)
    assert what in str(caught.value)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_counted_and_placed(dtype, value):
    x = np.zeros((70_000, 30), dtype)
    check_finite("fit", "x", x)
    x[69_999, 7] = x[69_999, 9] = value
    with pytest.raises(
        DataError,
        match=rf"^fit: expected finite values \(in float32\) in x, got {value} in row 70000, column 8 \(2 in all\)",
    ):
        check_finite("fit", "x", x)
    with pytest.raises(DataError, match="in row 70000 "):
        check_finite("fit", "y", x[:, 7])


def test_values_that_overflow_float32_are_nonfinite():
    check_finite("fit", "x", np.array([3.4e38, -3.4e38]))
    with pytest.raises(DataError, match=r"got 3\.5e\+38 in row 2"):
        check_finite("fit", "x", np.array([0, 3.5e38]))


# --- Dataset


@pytest.mark.parametrize(
    ("x", "what"),
    [
        (np.zeros(3), r"x of shape \(rows, features\).*reshape"),
        (np.zeros((0, 3)), "at least 1x1"),
        (np.zeros((3, 0)), "at least 1x1"),
        (np.zeros((1,) * 5), "of shape"),
        (np.array(3.0), "of shape"),
        (np.zeros((3, 2), complex), "integers or floats"),
        (np.array([["a"]] * 3), "integers or floats"),
        (np.zeros((3, 2), object), "integers or floats"),
        (np.zeros((3, 2), np.longdouble), "integers or floats"),
        (np.zeros((3, 2), "M8[s]"), "integers or floats"),
        (None, "integers or floats"),
        ([[1], [2, 3], [4]], "x as an array"),
        (np.full((3, 2), np.nan), "finite values"),
        (np.zeros((4, 2)), "each of the 4 rows of x, got 3 targets"),
    ],
)
def test_dataset_refuses_features(x, what):
    with pytest.raises(DataError, match=f"^mine: expected .*{what}"):
        Dataset.from_arrays("mine", x, [0, 1, 0])


@pytest.mark.parametrize(
    ("y", "what"),
    [
        ([[1, 2], [3]], "y as an array"),
        (np.zeros(3, complex), "a target y of"),
        (np.zeros(3, object), "a target y of"),
        (np.zeros((3, 1, 1)), "y of shape"),
        ([0.5, np.nan, 1], "finite values"),
        ([0.5, np.inf, 1], "finite values"),
        ([1e39, 0.5, 1], "finite values"),
        ([1, 1, 1], "at least 2 classes"),
        (np.zeros((3, 0)), "y of shape"),
        (5, "y of shape"),
        (np.array([b"\xff", b"a", b"a"]), "labels in UTF-8"),
    ],
)
def test_dataset_refuses_targets(y, what):
    with pytest.raises(DataError, match=f"^mine: expected .*{what}"):
        Dataset.from_arrays("mine", np.zeros((3, 2)), y)


def test_dataset_keeps_arrays_as_they_are():
    for dtype in ("u1", "i4", "f2", "f4", "f8"):
        x = np.ones((4, 3), dtype)
        assert Dataset.from_arrays("mine", x, [0, 1, 1, 0]).x.base is x
    assert Dataset.from_arrays("mine", np.ones((4, 3), ">f4"), [0, 1, 1, 0]).x.dtype == np.dtype("=f4")
    flags = Dataset.from_arrays("mine", np.ones((4, 3), bool), [0, 1, 1, 0]).x
    assert flags.dtype == np.uint8


def test_dataset_flattens_images():
    grey, colour = (Dataset.from_arrays("mine", np.zeros((4, 5, 6, *rest), np.uint8), [0, 1, 1, 0]) for rest in ((), (3,)))
    assert grey.x.shape == (4, 30)
    assert grey.image == (5, 6, 1)
    assert colour.x.shape == (4, 90)
    assert colour.image == (5, 6, 3)


def test_dataset_task_can_be_chosen():
    x = np.zeros((60, 1))
    many = Dataset.from_arrays("mine", x, np.arange(60), task="classification")
    assert many.classes == list(range(60))
    few = Dataset.from_arrays("mine", x, np.arange(60) % 3, task="regression")
    assert few.classes is None
    assert few.y.dtype == np.float32
    column = Dataset.from_arrays("mine", x, np.linspace(0, 1, 60).reshape(-1, 1))
    assert column.y.shape == (60,)
    with pytest.raises(DataError, match="expected numbers as the target of a regression, got text such as 'a'"):
        Dataset.from_arrays("mine", x, ["a", "b"] * 30, task="regression")
    with pytest.raises(
        DataError, match=r"expected task 'classification' or 'regression', got 'regresion'; did you mean 'regression'?"
    ):
        Dataset.from_arrays("mine", x, np.arange(60), task="regresion")


def test_dataset_checks_its_test_part():
    x, y = np.zeros((4, 2)), [0, 1, 1, 0]
    assert Dataset.from_arrays("mine", x, y, x[:1], [1]).y_test.tolist() == [1]
    for x_test, y_test, what in (
        (x[:, :1], y, "2 features"),
        (x, [0, 1, 2, 0], "got 2 in row 3"),
        (x, [0], "1 targets"),
        (x, None, "together"),
        (x * np.nan, y, "finite"),
    ):
        with pytest.raises(DataError, match=f"^mine.*: expected .*{what}"):
            Dataset.from_arrays("mine", x, y, x_test, y_test)


# --- split


@pytest.mark.parametrize("rows", [2, 3, 10, 101, 1797])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.999, 1e-9])
def test_split_cuts_rows_in_two(rows, fraction):
    kept, held = split(np.zeros(rows), fraction, 3, stratify=False)
    assert sorted([*kept, *held]) == list(range(rows))
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(held) > 0)
    assert len(held) == min(max(round(fraction * rows), 1), rows - 1)


def test_split_is_a_function_of_its_seed():
    y = np.arange(1000) % 7
    first, again, other = (split(y, 0.2, seed, stratify=True)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other
    # Written down once: the held-out rows must be the same in every version of this package and of NumPy.
    assert split(np.zeros(20), 0.2, 0, stratify=False)[1].tolist() == [0, 8, 9, 19]
    assert split(np.arange(20) // 10, 0.3, 0, stratify=True)[1].tolist() == [0, 8, 9, 14, 18, 19]


@pytest.mark.parametrize("seed", range(5))
def test_split_takes_the_share_of_each_class(seed):
    random = np.random.default_rng(seed)
    y = random.choice(6, 500, p=[0.5, 0.3, 0.1, 0.06, 0.03, 0.01])
    kept, held = split(y, 0.2, seed, stratify=True)
    assert len(held) == 100
    shares = np.bincount(y[held], minlength=6) - 0.2 * np.bincount(y, minlength=6)
    assert np.abs(shares).max() < 1
    assert len(np.unique(y[kept])) == len(np.unique(y))


def test_split_keeps_a_row_of_every_class():
    y = np.array([0] * 3 + list(range(1, 40)))
    kept, held = split(y, 0.9, 0, stratify=True)
    assert set(y[kept]) == set(range(40))
    assert set(y[held]) == {0}
    assert len(held) == 2
    with pytest.raises(DataError, match=r"class with at least 2 rows, got 9 classes in 9 rows; .*\(--task regression\)"):
        split(np.arange(9), 0.2, 0, stratify=True)


def test_split_is_random_within_classes():
    y = np.arange(10_000) // 5000
    held = split(y, 0.2, 0, stratify=True)[1]
    assert abs(held[y[held] == 0].mean() - 2500) < 4 * 1443 / np.sqrt(1000)  # 4 standard errors of the mean


@pytest.mark.parametrize(
    ("rows", "fraction", "seed"),
    [(1, 0.5, 0), (0, 0.5, 0), (9, 0, 0), (9, 1, 0), (9, float("nan"), 0), (9, 0.5, -1), (9, 0.5, 1.5), (9, 0.5, None)],
)
def test_split_refuses_nonsense(rows, fraction, seed):
    with pytest.raises(DataError, match=r"^split: expected"):
        split(np.zeros(rows), fraction, seed, stratify=False)
