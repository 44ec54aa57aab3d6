# SPDX-License-Identifier: Apache-2.0
"""The door of the net: what fit, predict, evaluate and step refuse, and that nothing has changed when they do."""

import copy
import weakref

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from dlcore import _core
from dlcore.errors import DataError

X, Y = rng(0).normal(size=(20, 4)).astype(np.float32), rng(1).integers(0, 3, 20)


def net(**options):
    return dl.Net([dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3)], **options)


def bad(array, value):
    changed = np.array(array, dtype=np.float64)
    changed.flat[5] = value
    return changed


class Frame:
    """A data frame as far as the door looks at one."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.dtypes = [np.asarray(v).dtype for v in columns.values()]
        self.values = np.array(list(columns.values()), object).T

    def __array__(self, dtype=None, copy=None):
        return self.values


BAD_X = {
    "none": (None, "numbers|array"),
    "text": (np.array([["a"] * 4] * 20), "expected numbers"),
    "objects": (np.array([[object()] * 4] * 20), r"numpy.asarray\(..., 'float32'\) converts what are numbers"),
    "mixed_frame": (Frame(a=[1], b=[2.0], c=[True]), "of columns 'a: int64', 'b: float64', 'c: bool'; numpy.asarray"),
    "text_in_frame": (Frame(age=[1], city=["x"]), "object array of shape .* of columns 'city: <U1'; numpy.asarray"),
    "complex": (X.astype(complex), "expected numbers"),
    "long_double": (X.astype(np.longdouble), "expected numbers"),
    "dates": (np.zeros((20, 4), "datetime64[s]"), "expected numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], "array of numbers"),
    "masked": (np.ma.masked_array(X, mask=X > 0), "without a mask"),
    "no_rows": (X[:0], "at least one row"),
    "no_columns": (X[:, :0], "at least one row and one column"),
    "columns": (X[:, :3], r"expected 4 columns, got shape \(20, 3\)"),
    "nan": (bad(X, np.nan), r"finite numbers, got 1 NaN or Inf, the first at \(1, 1\)"),
    "inf": (bad(X, -np.inf), "pass allow_nonfinite=True"),
    "beyond_float32": (bad(X, 1e39), r"finite numbers, got 1 beyond float32, the first at \(1, 1\)"),
    "beyond_float32_in_columns": (np.asfortranarray(bad(X, -1e300)), r"got 1 beyond float32, the first at \(1, 1\)"),
    "nan_in_columns": (np.asfortranarray(bad(X, np.nan)), r"got 1 NaN or Inf, the first at \(1, 1\)"),
    "nan_below_others": (np.concatenate([np.ones((30000, 4)), bad(X, np.nan)]), r"got 1 .* the first at \(30001, 1\)"),
}
BAD_Y = {
    "rows": (Y[:-1], r"expected 20 rows as x has, got shape \(19,\)"),
    "negative": (np.where(np.arange(20) == 3, -1, Y), r"labels in \[0, 3\), got labels from -1"),
    "too_large": (np.where(np.arange(20) == 3, 3, Y), "the net has 3 outputs"),
    "smallest_int64": (np.full(20, np.iinfo(np.int64).min), "labels in"),
    "floats": (Y.astype(float), "integer class labels"),
    "text": (np.array(["a"] * 20), "expected numbers"),
    "probability_columns": (np.full((20, 2), 0.5), "expected 3 columns"),
    "probabilities_above_one": (np.full((20, 3), 1.5), r"probabilities in \[0, 1\] for SoftmaxCrossEntropy"),
    "counts": (np.full((20, 3), 7), r"pass loss=MeanSquaredError\(\) for a regression"),
    "three_dimensions": (np.zeros((20, 3, 1)), "one or two dimensions"),
    "scalar": (1, "20 rows"),
}
BAD_OPTIONS = {
    "epochs_zero": ({"epochs": 0}, "fit: epochs: expected an integer >= 1, got 0"),
    "epochs_text": ({"epochs": "3"}, "expected an integer"),
    "batch_zero": ({"batch_size": 0}, "fit: batch_size: expected an integer >= 1"),
    "batch_above_rows": ({"batch_size": 21}, "batch_size of at most 20 rows, got 21"),
    "batch_huge": ({"batch_size": 2**63}, "batch_size"),
    "validation_one": ({"validation": 1.0}, "leave rows for training"),
    "validation_negative": ({"validation": -0.1}, "validation"),
    "validation_tuple": ({"validation": (X,)}, r"validation=\(x, y\)"),
    "validation_width": ({"validation": (X[:, :2], Y)}, "fit: validation: x: expected 4 columns"),
    "weights_shape": ({"sample_weight": np.ones(3)}, r"shape \(20,\)"),
    "weights_negative": ({"sample_weight": -np.ones(20)}, "weights >= 0"),
    "weights_zero": ({"sample_weight": np.zeros(20)}, "not all 0"),
    "weights_nan": ({"sample_weight": bad(np.ones(20), np.nan)}, r"at \(5, 0\); clean the data$"),
    "weights_beyond_float32": ({"sample_weight": np.full(20, 1e300)}, "finite numbers, got 20 beyond float32"),
    "weights_zero_in_float32": ({"sample_weight": np.full(20, 1e-50)}, "weights >= 0, not all 0, got minimum 0, sum 0"),
    "monitor": ({"monitor": "validation_lost"}, "did you mean 'validation_loss'"),
    "monitor_without_validation": (
        {"monitor": "validation_accuracy"},
        "fit: monitor: .* got 'validation_accuracy'; pass validation= to fit",
    ),
    "monitor_without_classes": (
        {"loss": dl.MeanSquaredError(), "y": np.eye(3)[Y], "validation": 0.2, "monitor": "validation_accuracy"},
        r"fit: monitor: expected one of 'loss', 'validation_loss' with MeanSquaredError\(\), got 'validation_accuracy'$",
    ),
    "stopping_without_validation": (
        {"callbacks": [dl.EarlyStopping()]},
        "EarlyStopping: monitor: .* got 'validation_loss'; pass validation= to fit",
    ),
    "stopping_without_classes": (
        {"loss": dl.MeanSquaredError(), "callbacks": [dl.EarlyStopping(monitor="accuracy")], "y": np.eye(3)[Y]},
        "EarlyStopping: monitor: expected one of 'loss' with",
    ),
    "callbacks": ({"callbacks": [3]}, "expected callbacks or callables, got 3"),
    "callback_class": ({"callbacks": [dl.EarlyStopping]}, "callbacks or callables, got the class EarlyStopping"),
    "one_callback": ({"callbacks": dl.EarlyStopping()}, r"fit: callbacks: expected a sequence, .* in a list: \[callback\]"),
    "no_callbacks": ({"callbacks": None}, "fit: callbacks: expected a sequence, got None"),
    "loss": ({"loss": "mse"}, "expected a loss such as"),
    "loss_class": ({"loss": dl.SoftmaxCrossEntropy}, r"the class SoftmaxCrossEntropy; call it: SoftmaxCrossEntropy\(\)"),
    "optimizer": ({"optimizer": "adam"}, r"expected an optimizer such as Adam\(\), got 'adam'"),
    "optimizer_rate": ({"optimizer": 0.01}, r"expected an optimizer such as Adam\(\), got 0.01"),
    "optimizer_class": ({"optimizer": dl.Adam}, r"got the class Adam; call it: Adam\(\)"),
    "schedule_of_text": ({"optimizer": dl.SGD(lambda t: "a")}, "a schedule with finite rates >= 0, got 'a' at t = 0"),
    "schedule_of_none": ({"optimizer": dl.SGD(lambda t: None)}, "a schedule with finite rates >= 0, got None at t = 0"),
    "schedule_overflows": ({"optimizer": dl.SGD(lambda t: 10**400)}, "finite rates >= 0, got an int of 1329 bits"),
    "time_limit_overflows": ({"time_limit": 10**400}, "fit: time_limit: expected a finite number >= 0, got an int of"),
    "accumulate": ({"accumulate": 0}, "accumulate"),
    "time_limit": ({"time_limit": -1.0}, "time_limit"),
    "class_weights": ({"loss": dl.SoftmaxCrossEntropy(class_weight=(1.0, 2.0))}, "expected 3 class weights, got 2"),
}


def refused(call, text):
    model = net()
    before = model.store.array.tobytes()
    with pytest.raises((ValueError, TypeError), match=text) as error:
        call(model)
    assert "\n" not in str(error.value)
    assert model.store.array.tobytes() == before and model.training is None


@pytest.mark.parametrize("name", BAD_X)
def test_fit_and_predict_refuse_x(name):
    x, text = BAD_X[name]
    refused(lambda m: m.fit(x, Y, verbose=0), text)
    refused(lambda m: m.predict(x), text)


@pytest.mark.parametrize("name", BAD_Y)
def test_fit_and_evaluate_refuse_y(name):
    y, text = BAD_Y[name]
    loss = dl.SoftmaxCrossEntropy()
    refused(lambda m: m.fit(X, y, loss=loss, verbose=0), text)
    refused(lambda m: m.evaluate(X, y, loss=loss), text)


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_fit_refuses_options(name):
    options, text = BAD_OPTIONS[name]
    refused(lambda m: m.fit(X, **{"y": Y, "verbose": 0, **options}), text)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: net(seed=-1), "seed to be an integer"),
        (lambda: net(seed=2**64), "seed to be an integer"),
        (lambda: net(seed=1.5), "seed to be an integer"),
        (lambda: net(dtype="float16"), "dtype: expected one of 'float32', 'float64'"),
        (lambda: net(dtype=np.dtype("float32")), r"dtype: expected one of 'float32', 'float64', got dtype\('float32'\)"),
        (lambda: net(dtype=np.ones(3)), "dtype: expected one of 'float32', 'float64', got float64 array"),
        (lambda: dl.Net(5), "Net: expected a layer or a sequence of layers, got 5"),
        (lambda: dl.Net(dl.Linear), r"Net: expected a layer or .*, got the class Linear; call it: Linear\(\)"),
        (lambda: dl.Net([dl.Linear]), r"expected layers, got the class Linear at position 0; call it: Linear\(\)"),
        (lambda: net(threads=0), "threads: expected an integer >= 1"),
        (lambda: net(device="gpu"), "device: expected one of"),
        (lambda: dl.Adam(lr=float("nan")), "Adam: lr: expected a finite number"),
        (lambda: dl.Adam(10**400), "Adam: lr: expected a finite number >= 0, got an int of 1329 bits"),
        (lambda: dl.SGD(0.1, wd=3), "SGD: option: expected one of 'lr', 'momentum', .*, 'clip_value', got 'wd'"),
        (lambda: dl.AdamW(weigth_decay=3), "AdamW: option: .* did you mean 'weight_decay'"),
        (lambda: dl.SoftmaxCrossEntropy(class_weight="balanced"), "number >= 0 a class, .*, got 'balanced'; balanced ones are"),
        (lambda: dl.SoftmaxCrossEntropy(class_weight={0: 1.0}), r"number >= 0 a class, .*, got \{0: 1.0\}"),
        (lambda: dl.Progress(every="a"), "Progress: every: expected a finite number >= 0, got 'a'"),
        (lambda: dl.Adam(beta1=1.0), r"beta1: expected a number in \[0, 1\)"),
        (lambda: dl.SGD(0.1, nesterov=True), "momentum > 0 with nesterov"),
        (lambda: dl.SGD(0.1, clip_norm=0), "clip_norm: expected a finite number > 0"),
        (lambda: dl.SoftmaxCrossEntropy(label_smoothing=1.5), "label_smoothing"),
        (lambda: dl.BinaryCrossEntropy(class_weight=(1, 2, 3)), "2 class weights"),
        (lambda: dl.schedules.Cosine(0.1, total=2, warmup=3), "warmup below total"),
        (lambda: dl.num_threads(0), "num_threads"),
    ],
)
def test_constructors_refuse(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


@pytest.mark.skipif(_core.cuda_info()["available"], reason="CUDA is available")
def test_cuda_that_is_not_there_says_why():
    with pytest.raises(RuntimeError, match="available device"):
        net(device="cuda")


def test_nonfinite_data_passes_when_allowed():
    y = net().predict(bad(X, np.nan), allow_nonfinite=True)
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[2]).all()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 10, "updates_per_epoch": 0}])
def test_compile_refuses_options(options):
    refused(lambda m: m.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), **options), "compile: .* expected an integer >= 1")


def test_step_refuses_another_batch_size_and_width():
    step = net().compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), 10)
    with pytest.raises(ValueError, match="step: expected 10 rows, got 20"):
        step(X, Y)
    with pytest.raises(ValueError, match="step: x: expected 4 columns"):
        step(X[:10, :3], Y[:10])


@pytest.mark.parametrize(
    ("loss", "good", "bad"),
    [
        (dl.SoftmaxCrossEntropy, Y[:10], Y[:10] + 1),
        (dl.SoftmaxCrossEntropy, np.eye(3)[Y[:10]], np.eye(3)[Y[:10]] * 1.001),
        (dl.SoftmaxCrossEntropy, np.eye(3, dtype=np.uint8)[Y[:10]], np.eye(3, dtype=np.uint8)[Y[:10]] * 2),
        (dl.BinaryCrossEntropy, np.eye(3, dtype=np.float32)[Y[:10]], -np.eye(3, dtype=np.float32)[Y[:10]]),
        (dl.BinaryCrossEntropy, np.eye(3, dtype=int)[Y[:10]], np.eye(3, dtype=int)[Y[:10]] * 2),
    ],
    ids=["classes", "probabilities", "integers", "binary", "binary_integers"],
)
def test_targets_of_later_steps_are_checked_as_those_of_the_first(loss, good, bad):
    model = net()
    step = model.compile(loss(), dl.SGD(0.1), 10)
    for _ in range(2):
        step(X[:10], good)
        before = model.store.array.copy()
        with pytest.raises(DataError, match="step: y: expected"):
            step(X[:10], bad)
        assert (model.store.array == before).all()


def test_masked_values_are_refused_each_time():
    model = net()
    masked = np.ma.masked_array(X, np.arange(X.size).reshape(X.shape) == 3)
    step = model.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.1), len(X))
    for call in (model.predict, model.predict_proba, model.predictor().predict, lambda x: step(x, Y)):
        for _ in range(2):
            call(X)
            with pytest.raises(DataError, match="x: expected"):
                call(masked)


@pytest.mark.parametrize("call", ["predict", "predict_proba"])
def test_large_arrays_are_let_go_after_their_prediction(call):
    model = net()
    for _ in range(2):
        x = np.ones((70_000, 4), np.float32)
        gone = weakref.ref(x)
        getattr(model, call)(x)
        getattr(model, call)(x)
        del x
        assert gone() is None


def test_a_schedule_that_returns_nonsense_is_refused():
    with pytest.raises(ValueError, match="finite rates >= 0, got -1"):
        net().fit(X, Y, optimizer=dl.SGD(lambda t: -1.0), verbose=0)


def test_inputs_by_dlpack_and_lists_train_alike():
    class Offered:
        def __dlpack__(self, **options):
            return X.__dlpack__(**options)

        def __dlpack_device__(self):
            return X.__dlpack_device__()

    results = set()
    for x in (X, X.tolist(), Offered()):
        model = net()
        model.fit(x, Y.tolist(), epochs=1, verbose=0)
        results.add(model.store.array.tobytes())
    assert len(results) == 1


def test_targets_may_be_one_hot_or_classes():
    results = []
    for y in (Y, np.eye(3)[Y], np.eye(3, dtype=np.uint8)[Y], Y.astype(np.uint8), (Y == 1).astype(bool) * 1):
        model = net()
        results.append(model.fit(X, y, loss=dl.SoftmaxCrossEntropy(), epochs=3, verbose=0)["loss"][-1])
    assert results[0] == results[3]
    assert results[1] == results[2] == pytest.approx(results[0], rel=1e-6)
    assert results[4] != results[0]


def test_a_huge_broadcast_view_is_an_error_not_a_crash():
    huge = np.broadcast_to(np.float32(1), (2**40, 5))
    with pytest.raises(ValueError, match="expected 4 columns"):
        net().predict(huge)


def test_predictions_do_not_depend_on_the_batch_they_are_in():
    x = rng(3).normal(size=(2100, 4)).astype(np.float32)
    model = net()
    whole = model.predict(x)
    for rows in (slice(0, 1), slice(100, 103), slice(1024, 2100), slice(63, 129)):
        assert model.predict(x[rows]).tobytes() == whole[rows].tobytes()


def test_prediction_from_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    x = rng(3).normal(size=(300, 4)).astype(np.float32)
    model = net()
    want = model.predict(x).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert all(got.tobytes() == want for got in pool.map(lambda _: model.predict(x), range(64)))


def test_progress_goes_to_standard_error_and_can_be_silent(capsys):
    net().fit(X, Y, epochs=2, validation=0.2)
    out = capsys.readouterr()
    assert out.out == ""
    assert "epoch 2/2" in out.err and "\x1b" not in out.err
    net().fit(X, Y, epochs=2, verbose=0)
    assert capsys.readouterr().err == ""


def test_predictions_of_arrays_of_one_kind_are_those_of_fresh_nets():
    make = lambda: dl.Net([dl.Linear(3, 8), dl.BatchNorm(8), dl.Tanh(), dl.Linear(8, 2)], seed=1)  # noqa: E731
    net, r = make(), np.random.default_rng(0)
    for rows, dtype in ((5, np.float32), (5, np.float32), (5, np.float64), (1, np.float32), (1, np.float32)):
        x = r.normal(size=(rows, 3)).astype(dtype)
        first = net.predict(x)
        assert first.tolist() == make().predict(x).tolist()
        assert net.predict_proba(x).tolist() == make().predict_proba(x).tolist()
        assert net.predict(x) is not first  # every call gives an array of its own
    net.parameters["0.weight"][...] = 0
    changed = net.predict(x)
    assert (changed != first).any()
    net.normalize_inputs([2.0] * 3, [1.0] * 3)
    net.parameters["0.weight"][...] = 1
    assert (net.predict(x) != changed).any()


def test_a_prediction_like_the_one_before_is_checked_too():
    net = dl.Net([dl.Linear(3, 2)])
    x = np.ones((4, 3), np.float32)
    net.predict(x)
    x[2, 1] = np.nan
    with pytest.raises(dl.errors.DataError, match="predict: x: expected finite numbers, got 1 NaN or Inf"):
        net.predict(x)
    assert np.isnan(net.predict(x, allow_nonfinite=True)[2]).all()
    with pytest.raises(ValueError, match="predict: x: expected 3 columns"):
        net.predict(x[:, :2])


def test_many_threads_predict_at_once():
    from concurrent.futures import ThreadPoolExecutor

    net = dl.Net([dl.Linear(6, 16), dl.GELU(), dl.Linear(16, 3)], seed=2)
    xs = [np.random.default_rng(i).normal(size=(1 + i % 3, 6)).astype(np.float32) for i in range(60)]
    expected = [net.predict(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(net.predict, xs), expected, strict=True):
                assert got.tolist() == want.tolist()


def target(rows=20):
    return np.arange(rows, dtype=float).reshape(-1, 1)


# A call that binds, and one that would train on numbers that float32 does not hold.
LATER = {
    "x": ((X.astype(float), target()), (bad(X, 1e39), target())),
    "y": ((X, target()), (X, bad(target(), -1e39))),
    "weight": ((X, target(), np.ones(20)), (X, target(), np.full(20, 1e-50))),
}


@pytest.mark.parametrize("name", LATER)
def test_a_later_step_is_checked_in_the_dtype_of_the_net(name):
    first, later = LATER[name]
    model = dl.Net([dl.Linear(4, 1)])
    step = model.compile(dl.MeanSquaredError(), dl.SGD(0.1), 20)
    step(*first)
    before = model.store.array.tobytes()
    with pytest.raises(dl.errors.DataError, match=r"step: .*(1 beyond float32|not all 0)"):
        step(*later)
    assert model.store.array.tobytes() == before
    wide = dl.Net([dl.Linear(4, 1)], dtype="float64").compile(dl.MeanSquaredError(), dl.SGD(0.1), 20)
    assert np.isfinite([wide(*first), wide(*later)]).all()


def test_a_later_prediction_is_checked_in_the_dtype_of_the_net():
    narrow, wide = net(), net(dtype="float64")
    for model in (narrow, wide):
        model.predict(X.astype(float))
    with pytest.raises(dl.errors.DataError, match="predict: x: expected finite numbers, got 1 beyond float32"):
        narrow.predict(bad(X, 1e39))
    assert np.isfinite(wide.predict(bad(X, 1e39))).all()
    assert not np.isfinite(narrow.predict(bad(X, 1e39), allow_nonfinite=True)[1]).all()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (([1e300] * 4, [0] * 4), r"normalize_inputs: scale: expected finite numbers, got 4 beyond float32"),
        (([1] * 4, [0, 0, np.nan, 0]), "normalize_inputs: shift: expected finite numbers, got 1 NaN or Inf"),
        (([1] * 3, [0] * 4), "normalize_inputs: scale: expected 4 finite numbers, got 3"),
        ((["a"] * 4, [0] * 4), "normalize_inputs: scale: expected numbers"),
    ],
)
def test_normalize_inputs_refuses(given, text):
    model = net()
    with pytest.raises((ValueError, TypeError), match=text):
        model.normalize_inputs(*given)
    assert model.input is None


def test_one_output_is_told_of_its_loss():
    with pytest.raises(ValueError, match=r"labels in \[0, 1\).* one output takes BinaryCrossEntropy\(\)"):
        dl.Net([dl.Linear(4, 1)]).fit(X, Y % 2, loss=dl.SoftmaxCrossEntropy(), verbose=0)


def test_one_row_with_batch_norm_is_not_the_batch_sizes_fault():
    with pytest.raises(ValueError, match="fit: expected at least 2 training rows with BatchNorm, got 1"):
        dl.Net([dl.Linear(4, 3), dl.BatchNorm(3)]).fit(X[:1], Y[:1], verbose=0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.compile(dl.SoftmaxCrossEntropy(), 0.01, 20), r"an optimizer such as Adam\(\), got 0.01"),
        (lambda m: m.compile(dl.SoftmaxCrossEntropy(), dl.Adam, 20), "got the class Adam"),
        (lambda m: m.plan(loss="mse"), r"a loss such as SoftmaxCrossEntropy\(\), got 'mse'"),
        (lambda m: m.plan(optimizer="adam"), r"an optimizer such as Adam\(\), got 'adam'"),
    ],
)
def test_compile_and_plan_refuse(call, text):
    refused(call, text)


def test_a_rate_that_overflows_later_is_refused_then():
    grows = dl.schedules.Step(0.0, every=1, factor=1e10, unit="update")
    assert grows(1000) == np.inf
    with pytest.raises(ValueError, match="SGD: expected a schedule with finite rates >= 0, got inf at t = 31"):
        net().fit(X, Y, optimizer=dl.SGD(grows), epochs=40, batch_size=20, verbose=0)


@pytest.mark.parametrize(("answer", "stops"), [(True, True), (np.True_, True), (False, False), (None, False)])
def test_callbacks_answer_whether_to_stop(answer, stops):
    assert len(net().fit(X, Y, epochs=2, callbacks=[lambda net, row: answer], verbose=0)) == 2 - stops


@pytest.mark.parametrize("answer", [np.ones(3), "go on", 1, {}])
def test_other_answers_of_callbacks_are_refused(answer):
    with pytest.raises(TypeError, match="fit: expected a callback that returns True to stop, else False or None, got"):
        net().fit(X, Y, callbacks=[lambda net, row: answer], verbose=0)


def test_a_layer_appended_to_a_net_is_refused():
    def append(model):
        model.layer.layers += (dl.Linear(3, 3),)
        model.predict(X)

    refused(append, r"the net was built with, got another of shape \(3, 3\); build a new Net")


def test_assigning_to_a_parameter_writes_into_the_net():
    model, other = net(), net(seed=1)
    kept = copy.deepcopy(model.parameters)
    model.parameters["0.weight"] = other.parameters["0.weight"].tolist()
    assert model.parameters["0.weight"].tolist() == other.parameters["0.weight"].tolist()
    model.parameters.update(other.parameters)
    assert model.predict(X).tobytes() == other.predict(X).tobytes()
    kept["0.weight"] = None  # a copy is apart from the net
    assert model.predict(X).tobytes() == other.predict(X).tobytes()


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("0.wieght", np.zeros((4, 8)), "parameters: expected one of .* did you mean '0.weight'"),
        ("0.weight", np.zeros((8, 4)), r"0.weight: expected shape \(4, 8\), got \(8, 4\)"),
        ("0.weight", 0.0, r"0.weight: expected shape \(4, 8\), got \(\)"),
        ("0.weight", np.full((4, 8), "a"), r"parameters\['0.weight'\]: expected numbers"),
    ],
)
def test_assigning_to_a_parameter_refuses(path, value, text):
    def assign(model):
        model.parameters[path] = value

    refused(assign, text)


@pytest.mark.parametrize("width", [2**40, 2**61])
def test_too_little_memory_says_for_what(width):
    with pytest.raises(MemoryError, match=r"^cpu: parameters: expected .*, got no more than"):
        dl.Net([dl.Linear(width, width)])
