# SPDX-License-Identifier: Apache-2.0
"""Copies and pickles of nets, predictors, optimizers and layers: equal bits, and free of what they were made from."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from dlcore.data import TargetScaler
from dlcore.errors import FileFormatError
from dlcore.plan import Snapshot

X, Y = rng(0).normal(size=(64, 5)).astype(np.float32), rng(1).integers(0, 3, 64)

WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
OPTIMIZERS = {
    "sgd": lambda: dl.SGD(0.1),
    "nesterov": lambda: dl.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=1.0),
    "adagrad": lambda: dl.Adagrad(clip_value=0.5),
    "rmsprop": lambda: dl.RMSprop(l2=0.1, decay_all=True),
    "adamw": lambda: dl.AdamW(dl.schedules.Cosine(0.01, total=10, warmup=1), weight_decay=0.1),
}


@pytest.fixture(params=WAYS)
def copied(request):
    """A function that copies."""
    return WAYS[request.param]


def layers():
    body = dl.Sequential(dl.Linear(8, 8, init="kaiming_normal"), dl.LayerNorm(8), dl.Dropout(0.2))
    return dl.Sequential(
        dl.Linear(5, 8, init=dl.init.normal(0.3)), dl.BatchNorm(8), dl.ReLU(), dl.Residual(body), dl.Linear(8, 3)
    )


def trained(**options):
    net = dl.Net(layers(), seed=3, **options)
    net.layer[0].bias.frozen = True
    net.normalize_inputs(np.arange(1.0, 6.0), np.ones(5))
    net.preprocessing = {"classes": ["a", "b", "c"]}
    net.fit(X, Y, optimizer=dl.Adam(0.01), epochs=1, batch_size=16, verbose=0)
    return net


def goes_on(net):
    """The bits of a net's weights after more training."""
    net.fit(X, Y, epochs=1, batch_size=16, verbose=0)
    return net.store.array.tobytes()


# --------------------------------------------------------------------------------------------------------- nets
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copied_net_is_the_net_and_goes_on_as_it(copied, dtype):
    net = trained(dtype=dtype, threads=1)
    before, other = net.store.array.tobytes(), copied(net)
    assert repr(other) == repr(net)
    assert (other.threads, other.gemm, other.device) == (1, "auto", "cpu")
    assert other.preprocessing == net.preprocessing
    assert [n for n, p in other.store.named.items() if p.frozen] == ["0.bias"]
    assert other.predict(X).tobytes() == net.predict(X).tobytes()
    after = goes_on(other)
    assert net.store.array.tobytes() == before != after
    assert goes_on(net) == after


def test_a_copied_net_keeps_the_units_of_its_targets(copied):
    net = dl.Net([dl.Linear(5, 1)])
    net.target_scaler = TargetScaler().fit(np.array([10.0, 30.0]))
    assert copied(net).predict(X).tobytes() == net.predict(X).tobytes()


def test_a_copied_net_keeps_its_device(copied, second_device):
    net = dl.Net(layers(), device=second_device, gemm="simt")
    other = copied(net)
    assert (other.device, other.gemm) == (second_device, "simt")
    assert other.predict(X).tobytes() == net.predict(X).tobytes()
    assert copied(net.predictor()).device == second_device


def test_a_pickled_net_is_checked_like_a_file():
    whole = pickle.dumps(trained())
    place = whole.index(b"\x93NUMPY") + 140
    with pytest.raises(FileFormatError):
        pickle.loads(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


class Twice(dl.Layer):
    def forward(self, x):
        return x


def test_a_net_with_a_layer_of_ones_own_is_refused():
    with pytest.raises(ValueError, match=r"pickle: expected a layer .* got Twice\(\) of test_pickle\.Twice"):
        copy.deepcopy(dl.Net([dl.Linear(5, 3), Twice()]))


def test_nets_and_predictors_go_to_other_processes():
    net = trained()
    want = net.predict(X).tobytes()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(methodcaller("predict", X), [net, net.predictor()]))
    assert [y.tobytes() for y in results] == [want, want]


def test_nets_go_through_joblib(tmp_path):
    joblib = pytest.importorskip("joblib")
    net = trained()
    joblib.dump(net, tmp_path / "net.joblib")
    assert goes_on(joblib.load(tmp_path / "net.joblib")) == goes_on(net)


# --------------------------------------------------------------------------------------------------- predictors
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_copied_predictor_has_its_bits_whatever_became_of_the_net(device, copied, precision):
    net = trained(device=device, precision=precision)
    predictor = net.predictor(threads=1)
    want = predictor.predict(X).tobytes()
    goes_on(net)
    other = copied(predictor)
    assert (other.predict(X).tobytes(), other.threads, other.nbytes) == (want, 1, predictor.nbytes)
    assert other.predict(X[:1]).tobytes() == want[: 3 * 4]


def test_a_predictor_packed_for_another_processor_is_refused(monkeypatch):
    pickled = pickle.dumps(dl.Net(layers()).predictor())
    monkeypatch.setattr(Snapshot, "places", [["strips", 24, "real", [5, 8], 0]])
    with pytest.raises(FileFormatError, match=r"unpickle: expected weights packed for .*; pickle the net"):
        pickle.loads(pickled)


# --------------------------------------------------------------------------------------------------- optimizers
def stepped(optimizer, arrays, times):
    for _ in range(times):
        optimizer.step(arrays, [np.ones_like(a) for a in arrays])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copied_optimizer_goes_on_as_the_first(name, before, way):
    mine = [np.ones((3, 4), np.float32), np.ones(4, np.float32)]
    optimizer = OPTIMIZERS[name]()
    stepped(optimizer, mine, before)
    other, theirs = WAYS[way](optimizer), copy.deepcopy(mine)
    assert other.config() == optimizer.config()
    stepped(other, theirs, 2)
    stepped(optimizer, mine, 2)
    assert [a.tobytes() for a in mine] == [a.tobytes() for a in theirs]


# ------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copied_layer_has_the_weights_and_belongs_to_no_net(way):
    net = trained()
    before = net.store.array.tobytes()
    other = dl.Net(WAYS[way](net.layer), seed=9)
    other.normalize_inputs(*net.input)
    assert other.predict(X).tobytes() == net.predict(X).tobytes()
    goes_on(other)
    assert net.store.array.tobytes() == before
    head = dl.Net([WAYS[way](net.layer[0]), dl.Linear(8, 2)])
    assert head.parameters["0.weight"].tobytes() == net.parameters["0.weight"].tobytes()


@pytest.mark.parametrize("init", [*dl.init.NAMES, dl.init.uniform(0.2), dl.init.constant(0.5)])
@pytest.mark.filterwarnings("ignore:constant initialisation")
def test_a_layer_copied_before_it_is_drawn_is_drawn_alike(init):
    layer = dl.Linear(5, 3, init=init)
    (mine, theirs) = (dl.Net(each, seed=4).store.array for each in (layer, pickle.loads(pickle.dumps(layer))))
    assert mine.tobytes() == theirs.tobytes()
