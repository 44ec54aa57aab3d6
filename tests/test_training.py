# SPDX-License-Identifier: Apache-2.0
"""Whole nets: gradients against finite differences, bits that never change, weights, accumulation, freezing, the loop."""

import numpy as np
import pytest

import dlcore as dl
import oracle
from checks import assert_close, check_gradient, rng
from test_layers import describe


def data(rows=40, cols=6, classes=3, seed=0):
    generator = rng(seed)
    return generator.normal(size=(rows, cols)).astype(np.float32), generator.integers(0, classes, rows)


def mlp(seed=0, dtype="float32", threads=None, dropout=0.0):
    return dl.Net(
        [dl.Linear(6, 16), dl.BatchNorm(16), dl.ReLU(), dl.Dropout(dropout), dl.Linear(16, 3)],
        seed=seed, dtype=dtype, threads=threads,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "cols"),
    [
        (dl.SoftmaxCrossEntropy(), 3),
        (dl.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5), label_smoothing=0.1), 3),
        (dl.MeanSquaredError(), 2),
        (dl.BinaryCrossEntropy(class_weight=(1.0, 3.0)), 2),
    ],
)
def test_loss_gradient_matches_finite_differences(loss, cols):
    generator = rng(4)
    x, w = generator.normal(size=(9, cols)), generator.uniform(0.5, 2.0, 9)
    y = generator.integers(0, cols, 9) if loss.target == "index" else (generator.random((9, cols)) > 0.5) * 1.0
    _, pull = dl.vjp(loss, x, y, w)
    f = lambda v: dl.vjp(loss, v.reshape(x.shape), y, w)[0]  # noqa: E731
    check_gradient(f, x.ravel(), pull()[0].ravel(), depth=64)


def test_a_training_step_equals_the_oracles():
    x, y = data()
    net = mlp(dtype="float64")
    reference = oracle.OracleNet(describe(net.layer))
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.AdamW(0.01, weight_decay=0.1), len(x))
    states = [{} for _ in reference.parameters()]
    for _ in range(5):
        result = oracle.softmax_cross_entropy(reference.forward(x.astype(np.float64), training=True), y)
        _, gradients = reference.backward(result.dprediction / result.weight_sum)
        loss = step(x, y)
        assert_close(np.float64(loss), result.loss_sum / result.weight_sum, depth=4096)
        for p, g, s in zip(reference.parameters(), gradients, states, strict=True):
            decay = 0.1 if p.ndim == 2 else 0.0
            p[...] = oracle.RULES["adamw"](p, g, s, lr=0.01, decay=decay)
    weights = [net.parameters["0.weight"], net.parameters["4.weight"]]
    wanted = [p for p in reference.parameters() if p.ndim == 2]
    for got, want in zip(weights, wanted, strict=True):
        # Adam divides by the root of g^2, which brings a gradient's relative error to the weight: depth of 5 steps of it.
        assert_close(got, want, depth=2**20)


def fitted(threads=None, seed=0, epochs=3, batch_size=16, **options):
    x, y = data(100)
    net = mlp(seed=seed, threads=threads, dropout=0.3)
    net.fit(x, y, optimizer=dl.Adam(0.01), epochs=epochs, batch_size=batch_size, verbose=0, **options)
    return net


def test_the_same_seed_gives_the_same_bits_at_any_thread_count():
    assert len({fitted(threads).store.array.tobytes() for threads in (1, 2, 3, 1)}) == 1
    assert fitted(seed=1).store.array.tobytes() != fitted(seed=2).store.array.tobytes()


def test_a_last_lone_row_joins_the_batch_before_under_batch_norm():
    x, y = data(33)
    mlp().fit(x, y, epochs=1, batch_size=16, verbose=0)
    with pytest.raises(ValueError, match="batch_size >= 2 with BatchNorm, got 1"):
        mlp().fit(x, y, epochs=1, batch_size=1, verbose=0)


def test_batch_of_one_trains_without_batch_norm():
    x, y = data(10)
    net = dl.Net([dl.Linear(6, 3)])
    history = net.fit(x, y, optimizer=dl.SGD(0.1), epochs=20, batch_size=1, verbose=0)
    assert history["loss"][-1] < history["loss"][0]


def test_accumulated_batches_equal_one_large_batch():
    x, y = data(64)
    nets = []
    for batch_size, accumulate in ((64, 1), (16, 4)):
        net = dl.Net([dl.Linear(6, 8), dl.Tanh(), dl.Linear(8, 3)], dtype="float64")
        net.fit(
            x, y, optimizer=dl.SGD(0.1, momentum=0.9), epochs=3, batch_size=batch_size, accumulate=accumulate, verbose=0,
            shuffle=False,
        )  # fmt: skip
        nets.append(net.store.array.copy())
    assert_close(nets[1], nets[0], depth=4096)


def test_an_epoch_of_fewer_batches_than_accumulated_ends_with_an_update():
    assert len({fitted(accumulate=k).store.array.tobytes() for k in (7, 10, 2**40)}) == 1  # of 7 batches


def test_row_weights_equal_repeated_rows():
    x, y = data(12)
    w = np.arange(12) % 3 + 1
    nets = []
    for xs, ys, ws in ((x, y, w), (np.repeat(x, w, axis=0), np.repeat(y, w), None)):
        net = dl.Net([dl.Linear(6, 3)], dtype="float64")
        history = net.fit(
            xs, ys, sample_weight=ws, optimizer=dl.SGD(0.5), epochs=4, batch_size=len(xs), shuffle=False, verbose=0
        )
        nets.append((net.store.array.copy(), history["loss"]))
    assert_close(nets[0][0], nets[1][0], depth=4096)
    assert_close(np.array(nets[0][1]), np.array(nets[1][1]), depth=4096)


def test_frozen_parameters_stay():
    x, y = data()
    net = mlp()
    net.layer[0].weight.frozen = True
    before = {n: p.copy() for n, p in net.parameters.items()}
    net.fit(x, y, epochs=2, verbose=0)
    assert (net.parameters["0.weight"] == before["0.weight"]).all()
    assert (net.parameters["4.weight"] != before["4.weight"]).any()


def test_uint8_and_half_inputs_stay_as_they_are_and_train_alike():
    generator = rng(0)
    x, y = generator.integers(0, 255, (50, 6), dtype=np.uint8), generator.integers(0, 3, 50)
    results = set()
    for given in (
        x,
        x.astype(np.int64),
        x.astype(np.float16),
        x.astype(np.float32),
        np.asfortranarray(x),
        x.astype(">f4"),
    ):
        net = dl.Net([dl.Linear(6, 3)])
        net.normalize_inputs(np.full(6, 1 / 255), np.zeros(6))
        net.fit(given, y, epochs=2, batch_size=16, verbose=0)
        results.add((net.store.array.tobytes(), net.predict(given).tobytes()))
    assert len(results) == 1


def test_strided_and_memory_mapped_data(tmp_path):
    x, y = data(50)
    wide = np.zeros((100, 12), np.float32)
    wide[::2, ::2] = x
    np.save(tmp_path / "x.npy", x)
    nets = []
    for given in (x, wide[::2, ::2], np.load(tmp_path / "x.npy", mmap_mode="r")):
        net = dl.Net([dl.Linear(6, 3)])
        net.fit(given, y, epochs=2, batch_size=16, verbose=0)
        nets.append(net.store.array.tobytes())
    assert len(set(nets)) == 1


def test_exact_statistics_are_those_of_the_data():
    x, _ = data(3000)
    net = mlp(dtype="float64")
    net.exact_statistics(x)
    z = x.astype(np.float64) @ net.parameters["0.weight"] + net.parameters["0.bias"]
    assert_close(net.state["1.running_mean"], z.mean(axis=0), depth=3000)
    assert_close(net.state["1.running_var"], z.var(axis=0, ddof=1), depth=3000)


def test_early_stopping_restores_the_best_weights():
    x, y = data(60)
    net, seen = mlp(), {}

    def watch(net, row):
        seen[row["epoch"]] = (row["validation_loss"], net.store.array.copy())

    stop = dl.EarlyStopping(patience=3)
    history = net.fit(x, y, optimizer=dl.Adam(0.05), epochs=200, validation=0.3, callbacks=[watch, stop], verbose=0)
    best = min(seen, key=lambda e: seen[e][0])
    assert history.best == best and len(history) == best + 3
    assert (net.store.array == seen[best][1]).all()


def test_ctrl_c_restores_the_best_weights_and_goes_on():
    x, y = data(60)
    net, seen = mlp(), {}

    def interrupt(net, row):
        seen[row["epoch"]] = (row["validation_loss"], net.store.array.copy())
        if row["epoch"] == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, optimizer=dl.Adam(0.05), epochs=200, validation=0.3, callbacks=[interrupt], verbose=0)
    best = min(seen, key=lambda e: seen[e][0])
    assert (net.store.array == seen[best][1]).all()


class Ends(dl.Callback):
    """Counts its ends; stops at an epoch, and may fail then or at the end."""

    def __init__(self, stop=None, epoch_error=None, end_error=None):
        self.stop, self.epoch_error, self.end_error, self.ends = stop, epoch_error, end_error, 0

    def on_epoch_end(self, net, row):
        if self.epoch_error:
            raise self.epoch_error
        return row["epoch"] == self.stop

    def on_fit_end(self, net, history):
        self.ends += 1
        if self.end_error:
            raise self.end_error


def test_every_callback_meets_the_end_and_the_first_error_is_raised():
    x, y = data()
    first, second, third = OSError("first"), OSError("second"), OSError("third")
    for raised, callbacks in (
        (None, [Ends(), Ends()]),
        (second, [Ends(end_error=second), Ends(end_error=third), Ends()]),
        (first, [Ends(epoch_error=first, end_error=second), Ends(end_error=third), Ends()]),
    ):
        try:
            mlp().fit(x, y, epochs=1, callbacks=callbacks, verbose=0)
            found = None
        except OSError as error:
            found = error
        assert found is raised
        assert [c.ends for c in callbacks] == [1] * len(callbacks)
    assert getattr(first, "__notes__", []) == ["on_fit_end: OSError('second')", "on_fit_end: OSError('third')"]


def test_the_reason_names_what_stopped():
    x, y = data()

    def enough(net, row):
        return row["epoch"] == 2

    for callback, reason in (
        (enough, "callback enough"),
        (Ends(stop=1), "callback Ends"),
        (dl.EarlyStopping(1, min_delta=9.0, monitor="loss"), "no improvement"),
    ):
        assert mlp().fit(x, y, epochs=5, callbacks=[callback], verbose=0).reason == reason


def test_history_has_the_rate_of_an_epochs_last_update():
    x, y = data(64)
    schedule = dl.schedules.Cosine(1e-2, total=4, warmup=2)
    history = mlp().fit(x, y, optimizer=dl.Adam(schedule), epochs=3, batch_size=16, verbose=0)
    assert history["lr"] == [schedule(t) for t in (3 / 4, 7 / 4, 11 / 4)]


def test_history_is_a_table():
    history = mlp().fit(*data(), epochs=3, validation=0.2, verbose=0)
    assert len(history) == 3 and history["epoch"] == [1, 2, 3]
    header, *rows = history.csv().splitlines()
    assert header.startswith("epoch,loss,accuracy,validation_loss") and len(rows) == 3
    with pytest.raises(KeyError, match="expected one of"):
        history["lost"]
    assert repr(history) == f"History(3 epochs, best={history.best}, reason='3 epochs')"


def test_a_second_fit_goes_on_with_the_optimizers_state():
    x, y = data(64)
    whole, parts = mlp(), mlp()
    for net, epochs in ((whole, (4,)), (parts, (2, 2))):
        for i, n in enumerate(epochs):
            net.fit(x, y, optimizer=dl.Adam(0.01) if i == 0 else None, epochs=n, batch_size=16, verbose=0)
    assert whole.store.array.tobytes() == parts.store.array.tobytes()


def test_a_loss_that_is_not_finite_stops_with_a_warning():
    x, y = data(40)
    with pytest.warns(UserWarning, match="loss became"):
        history = dl.Net([dl.Linear(6, 8), dl.ReLU(), dl.Linear(8, 1)]).fit(
            x, y.astype(np.float32), loss=dl.MeanSquaredError(), optimizer=dl.SGD(1e9), epochs=20, verbose=0
        )
    assert history.reason == "the loss is not finite"


def test_evaluate_counts_and_scores():
    x, y = data(2500)
    net = mlp()
    got = net.evaluate(x, y)
    logits = net.predict(x).astype(np.float64)
    assert got["accuracy"] == pytest.approx((logits.argmax(axis=1) == y).mean(), abs=1e-12)
    assert_close(np.float64(got["loss"]), oracle.softmax_cross_entropy(logits, y).loss_sum / 2500, depth=2500 * 2**58)
    assert got["rows"] == 2500
    assert_close(net.predict_proba(x), oracle.softmax(logits), depth=16, ulps=4)


def test_r2_is_that_of_its_definition():
    x, _ = data(200)
    y = x[:, 0] * 2 + 1
    net = dl.Net([dl.Linear(6, 1)])
    net.fit(x, y, optimizer=dl.Adam(0.05), epochs=60, verbose=0)
    p = net.predict(x)[:, 0].astype(np.float64)
    want = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert net.evaluate(x, y)["r2"] == pytest.approx(want, rel=1e-6)


def test_optimizer_step_updates_a_users_arrays_in_place():
    generator = rng(0)
    for optimizer in (
        dl.SGD(0.1, momentum=0.9),
        dl.SGD(0.1, 0.9, nesterov=True),
        dl.Adagrad(),
        dl.RMSprop(),
        dl.AdamW(0.1),
    ):
        params = [generator.normal(size=s).astype(np.float32) for s in ((5, 3), (3,))]
        wanted, states = [p.astype(np.float64) for p in params], [{}, {}]
        for _ in range(4):
            grads = [generator.normal(size=p.shape).astype(np.float32) for p in params]
            optimizer.step(params, grads)
            for i, g in enumerate(grads):
                hyper = {k: v for k, v in optimizer.row(0, 1).items() if k in ("eps", "beta2", "lr")}
                if optimizer.rule in ("momentum", "nesterov"):
                    hyper = {"lr": 0.1, "momentum": 0.9}
                decay = {"decay": 0.01 if i == 0 else 0.0} if optimizer.rule == "adamw" else {}
                wanted[i] = oracle.RULES[optimizer.rule](wanted[i], g.astype(np.float64), states[i], **hyper, **decay)
        for p, w in zip(params, wanted, strict=True):
            assert_close(p, w, depth=64)


@pytest.mark.parametrize(
    ("params", "grads", "text"),
    [
        ([np.zeros(3)], [], "as many gradients"),
        ([[1.0]], [[1.0]], "SGD.step: parameter 0: expected a float32 or float64 array, got a list of 1"),
        (None, None, "SGD.step: params: expected a list of arrays, got None"),
        (np.zeros(3), np.zeros(3), "SGD.step: params: expected a list of arrays, got float64 array"),
        ([np.zeros(3)], np.zeros(3), "SGD.step: grads: expected a list of arrays, got float64 array"),
        ([np.zeros(3)], [np.array(["a"] * 3)], "SGD.step: gradient 0: expected numbers"),
        ([np.zeros(3)], [np.zeros(4)], r"gradient of shape \(3,\), got \(4,\)"),
        ([np.zeros(3, int)], [np.zeros(3)], "float32 or float64 array"),
        ([np.zeros((4, 4)).T[::2]], [np.zeros((2, 4))], "C-contiguous"),
    ],
)
def test_optimizer_step_refuses(params, grads, text):
    with pytest.raises((ValueError, TypeError), match=text):
        dl.SGD(0.1).step(params, grads)
