# SPDX-License-Identifier: Apache-2.0
"""Scaling against NumPy in float64 and encoding of tables, with every dtype and with columns that say nothing."""

import doctest
import json

import numpy as np
import pytest

from datasets import text_column
from dlcore.data import Center, Standardize, Table, TableEncoder, TargetScaler, Unscaled, preprocess
from dlcore.errors import DataError

EPS = np.finfo(np.float64).eps


def test_examples_of_preprocess_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert doctest.testmod(preprocess).failed == 0


def rows_of(dtype, rows, columns):
    values = np.random.default_rng(rows).normal(100, 20, (rows, columns))
    return values.astype(dtype)


def assert_moments(scaler, x, columns_of=lambda column: [column]):
    """Mean and scale agree with two passes over the same values, to the rounding of a sum of that length."""
    wide = x.astype(np.float64)
    for column in range(x.shape[1]):
        group = wide[:, columns_of(column)]
        bound = 4 * EPS * np.sqrt(group.size) * np.abs(group).max()
        assert abs(scaler.mean[column] - group.mean()) <= bound
        assert abs(1 / scaler.scale[column] - group.std()) <= bound
        assert scaler.shift[column] == -scaler.mean[column] * scaler.scale[column]


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize(("rows", "columns"), [(2, 1), (1000, 3), (20_011, 7), (3, 70_001)])
def test_standardize_matches_two_passes(dtype, rows, columns):
    x = rows_of(dtype, rows, columns)
    before = x.copy()
    scaler = Standardize().fit(x)
    np.testing.assert_array_equal(x, before)
    checked = slice(0, columns, max(1, columns // 7))
    part = Standardize.__new__(Standardize)
    part.mean, part.scale, part.shift = scaler.mean[checked], scaler.scale[checked], scaler.shift[checked]
    varies = x[:, checked].min(0) < x[:, checked].max(0)
    part.mean, part.scale, part.shift = part.mean[varies], part.scale[varies], part.shift[varies]
    assert_moments(part, x[:, checked][:, varies])


def test_standardize_result_does_not_depend_on_strides(tmp_path):
    x = rows_of("f4", 5000, 40)
    np.save(tmp_path / "x.npy", x)
    want = Standardize().fit(x)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], np.load(tmp_path / "x.npy", mmap_mode="r")):
        got = Standardize().fit(other)
        np.testing.assert_allclose(got.scale, want.scale, rtol=1e-13)
        np.testing.assert_allclose(got.mean, want.mean, rtol=1e-13)


@pytest.mark.parametrize("channels", [1, 3])
def test_standardize_per_channel_pools_the_columns_of_a_channel(channels):
    x = rows_of("u1", 3001, 12)
    x[:, ::3] //= 2
    scaler = Standardize("channel").fit(x, channels)
    assert_moments(scaler, x, lambda column: list(range(column % channels, 12, channels)))
    assert len(set(scaler.scale.tolist())) == channels


@pytest.mark.parametrize("value", [0, 7, 0.1, -1e-30, 1e30, 123456.789])
def test_constant_column_is_only_centred(value):
    x = np.full((999, 2), value, np.float64)
    x[:, 1] = np.arange(999)
    for scaler in (Standardize().fit(x), Standardize().fit(x[:, :1])):
        assert scaler.scale[0] == 1
        assert scaler.shift[0] == -value
        np.testing.assert_array_equal(scaler.transform(x[:, : len(scaler.scale)])[:, 0], 0)


def test_spread_below_resolution_counts_as_constant():
    x = 1.6e9 + np.arange(50.0).reshape(-1, 1)
    assert Standardize().fit(x).scale[0] == 1
    assert Standardize().fit(x - 1.6e9).scale[0] == pytest.approx(1 / np.arange(50).std())


def test_one_row_is_only_centred():
    scaler = Standardize().fit(np.array([[3.0, -4.0]]))
    assert scaler.scale.tolist() == [1, 1]
    assert scaler.shift.tolist() == [-3, 4]


def test_large_offset_keeps_its_digits():
    deviations = np.random.default_rng(0).normal(0, 1, (100_000, 1))
    scaler = Standardize().fit(deviations + 1e6)
    assert 1 / scaler.scale[0] == pytest.approx(deviations.std(), rel=1e-9)


def test_nonfinite_values_take_no_part():
    x = rows_of("f4", 30_000, 4)
    x[5, 0], x[29_999, 1], x[0, 2], x[:, 3] = np.nan, np.inf, -np.inf, np.nan
    scaler = Standardize().fit(x)
    for column in range(3):
        values = x[np.isfinite(x[:, column]), column].astype(np.float64)
        assert scaler.mean[column] == pytest.approx(values.mean(), rel=1e-12)
        assert 1 / scaler.scale[column] == pytest.approx(values.std(), rel=1e-12)
    assert scaler.scale[3] == 1
    assert scaler.shift[3] == 0


def test_center_and_none_leave_the_spread():
    x = rows_of("f8", 100, 3)
    center, none = Center().fit(x), Unscaled().fit(x)
    assert center.scale.tolist() == [1] * 3
    assert center.shift.tolist() == (-center.mean).tolist()
    assert none.scale.tolist() == [1] * 3
    assert none.shift.tolist() == [0] * 3
    np.testing.assert_allclose(center.transform(x).mean(0), 0, atol=1e-5)
    np.testing.assert_array_equal(none.transform(x), x.astype(np.float32))


def test_transform_has_mean_0_and_spread_1():
    x = rows_of("u1", 5000, 6)
    z = Standardize().fit(x).transform(x)
    assert z.dtype == np.float32
    assert z.shape == x.shape
    np.testing.assert_allclose(z.mean(0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0, dtype=np.float64), 1, atol=1e-6)


@pytest.mark.parametrize("name", ["none", "center", "standardize"])
@pytest.mark.parametrize("per", ["feature", "channel"])
def test_state_survives_json(name, per):
    x = rows_of("f4", 50, 6)
    scaler = preprocess.by_name(name, per).fit(x, 3)
    again = preprocess.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert type(again) is type(scaler)
    assert again.per == per
    for key in ("mean", "scale", "shift"):
        np.testing.assert_array_equal(getattr(again, key), getattr(scaler, key))


def test_target_scaler_inverts_itself():
    y = np.random.default_rng(0).normal(5e5, 1e5, 1000).astype(np.float32)
    scaler = TargetScaler().fit(y)
    again = preprocess.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert isinstance(again, TargetScaler)
    for target in (y, np.stack([y, y], axis=1), np.stack([y, -3 * y], axis=1)):
        scaler = TargetScaler().fit(target)
        z = scaler.transform(target)
        assert z.shape == target.shape
        assert abs(z.mean(dtype=np.float64)) < 1e-5
        np.testing.assert_allclose(scaler.inverse(z), target, rtol=1e-6)
    constant = TargetScaler().fit(np.full(10, 3.5, np.float32))
    assert constant.inverse(np.zeros(2)).tolist() == [3.5, 3.5]


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.zeros((2, 2, 2)), [[1.0]], None])
def test_fit_refuses_other_shapes(x):
    with pytest.raises(DataError, match=r"^Standardize: expected an array of shape"):
        Standardize().fit(x)


@pytest.mark.parametrize("channels", [0, -1, 4])
def test_fit_refuses_channels_that_do_not_divide(channels):
    with pytest.raises(DataError, match=r"^Center: expected columns of"):
        Center("channel").fit(np.ones((2, 6)), channels)


def test_fit_refuses_values_whose_squares_overflow():
    with pytest.raises(DataError, match="squares are finite"):
        Standardize().fit(np.array([[1e300], [-1e300]]))


def test_misuse_is_explained():
    with pytest.raises(DataError, match="expected none, center or standardize, got 'standardise'; did you mean 'standardize'"):
        preprocess.by_name("standardise")
    with pytest.raises(DataError, match="expected per='feature' or per='channel', got 'row'"):
        Standardize("row")
    with pytest.raises(DataError, match="expected after fit"):
        Standardize().transform(np.ones((2, 2)))
    with pytest.raises(DataError, match="expected an array with 2 columns"):
        Standardize().fit(np.ones((2, 2))).transform(np.ones((2, 3)))
    with pytest.raises(DataError, match="call of fit"):
        Standardize().to_dict()


STATE = {"kind": "standardize", "per": "feature", "mean": [1.0, 2.0], "scale": [1.0, 0.5]}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"kind": None},
        {"kind": ["center"]},
        {"per": "row"},
        {"per": None},
        {"mean": [1.0]},
        {"mean": []},
        {"mean": None},
        {"mean": "12"},
        {"mean": [1.0, True]},
        {"mean": [1.0, None]},
        {"scale": [1.0, 0.0]},
        {"scale": [1.0, -1.0]},
        {"scale": [1.0, float("nan")]},
        {"scale": [1.0, float("inf")]},
    ],
)
def test_damaged_state_is_refused(change):
    preprocess.from_dict(STATE)
    with pytest.raises(DataError, match=": expected"):
        preprocess.from_dict({**STATE, **change})


@pytest.mark.parametrize("state", [None, [], "center", {}])
def test_other_states_are_refused(state):
    with pytest.raises(DataError, match=r"^preprocess: expected the state"):
        preprocess.from_dict(state)


# --- encoding


def test_encoder_uses_means_and_categories_of_training():
    encoder = TableEncoder().fit(Table({"n": np.array([1.0, 3.0]), "t": text_column("b", "a")}))
    assert encoder.features == ["n", "t=a", "t=b"]
    later = Table({"t": text_column("c", "b", None), "n": np.array([np.nan, 5.0, 6.0]), "extra": np.zeros(3)})
    assert encoder.transform(later).tolist() == [[2, 0, 0], [5, 0, 1], [6, 0, 0]]
    assert encoder.transform(later).dtype == np.float32


def test_encoder_gives_missing_values_columns_of_their_own():
    encoder = TableEncoder().fit(Table({"n": np.array([1.0, np.nan]), "t": text_column("a", None)}))
    assert encoder.features == ["n", "n missing", "t=a", "t missing"]
    assert encoder.transform(Table({"n": np.array([np.nan, 4.0]), "t": text_column(None, "b")})).tolist() == [
        [1, 1, 0, 1],
        [4, 0, 0, 0],
    ]


def test_encoder_of_a_column_without_values():
    encoder = TableEncoder().fit(Table({"n": np.array([np.nan, np.nan]), "t": text_column(None, None)}))
    assert encoder.transform(Table({"n": np.array([np.nan, 7.0]), "t": text_column("a", None)})).tolist() == [
        [0, 1, 0],
        [7, 0, 1],
    ]


def test_encoder_keeps_255_frequent_categories_and_pools_the_rest():
    values = [f"v{place:03}" for place in range(300)]
    counts = [2] * 200 + [3] * 50 + [1] * 50
    column = text_column(*np.repeat(values, counts))
    encoder = TableEncoder().fit(Table({"t": column}))
    assert len(encoder.features) == 256
    assert encoder.features[0] == "t=v000"
    assert encoder.features[-1] == "t other"
    assert encoder.features[249:255] == [f"t=v{place:03}" for place in range(249, 255)]
    matrix = encoder.transform(Table({"t": text_column("v254", "v255", "new", None)}))
    assert np.argwhere(matrix).tolist() == [[0, 254], [1, 255], [2, 255]]


def test_encoder_leaves_out_text_that_names_rows():
    names = Table({"t": text_column(*[f"row {place}" for place in range(256)]), "n": np.arange(256.0)})
    encoder = TableEncoder().fit(names)
    assert encoder.features == ["n"]
    assert encoder.ignored == ["t"]
    assert encoder.kinds == {"t": "text", "n": "number"}
    with pytest.raises(DataError, match="expected a column that describes the rows"):
        TableEncoder().fit(names.without("n"))


def test_encoder_refuses_tables_of_other_kinds():
    encoder = TableEncoder().fit(Table({"n": np.zeros(2), "t": text_column("a", "b")}))
    for table, got in (
        (Table({"n": np.zeros(2)}), "no such column"),
        (Table({"n": np.zeros(2), "t": np.zeros(2)}), "number"),
    ):
        with pytest.raises(DataError, match=f"expected a text column 't', got {got}"):
            encoder.transform(table)


def test_encoder_state_survives_json():
    table = Table({"n": np.array([1.0, np.nan, 0.1]), "t": text_column("a", None, "b"), "m": np.zeros(3)})
    encoder = TableEncoder().fit(table)
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again.features == encoder.features
    assert again.kinds == encoder.kinds
    np.testing.assert_array_equal(again.transform(table), encoder.transform(table))


NUMERIC = {"name": "n", "kind": "number", "mean": 0.5, "missing": False}
CATEGORY = {"name": "t", "kind": "text", "labels": ["a"], "other": False, "missing": True}


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"columns": []},
        {"columns": {}},
        {"columns": [1]},
        {"columns": [{**NUMERIC, "mean": None}]},
        {"columns": [{**NUMERIC, "mean": float("nan")}]},
        {"columns": [{**NUMERIC, "kind": "date"}]},
        {"columns": [{**NUMERIC, "missing": 1}]},
        {"columns": [{**CATEGORY, "labels": "a"}]},
        {"columns": [{**CATEGORY, "labels": [1]}]},
        {"columns": [{**CATEGORY, "other": None}]},
        {"columns": [{**CATEGORY, "name": 3}]},
    ],
)
def test_encoder_refuses_damaged_states(state):
    TableEncoder.from_dict({"columns": [NUMERIC, CATEGORY]})
    with pytest.raises(DataError, match=r"^TableEncoder.from_dict: expected"):
        TableEncoder.from_dict(state)
