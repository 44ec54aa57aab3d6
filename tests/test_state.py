# SPDX-License-Identifier: Apache-2.0
"""What goes on from call to call: the optimizer's state in steps, fits and files; and what is changed between them counts."""

import numpy as np
import pytest

import dlcore as dl
import dlcore.ops
from checks import rng

X, Y = rng(0).normal(size=(50, 4)).astype(np.float32), rng(1).integers(0, 3, 50)
SCE = dl.SoftmaxCrossEntropy()


def net(*more, **options):
    return dl.Net([dl.Linear(4, 8), dl.Dropout(0.5), dl.LeakyReLU(), dl.Linear(8, 3), *more], **options)


def losses(model, optimizer, count, loss=SCE):
    step = model.compile(loss, optimizer, 50)
    return [step(X, Y) for _ in range(count)]


def same(one, other):
    return one.store.array.tobytes() == other.store.array.tobytes()


def passed_through(model, path):
    model.save(path)
    return dl.load(path)


# --------------------------------------------------------------------------------------------- the optimizer's state
@pytest.mark.parametrize("given", ["same", "none"])
def test_a_custom_loop_goes_on_from_a_file_as_if_unbroken(tmp_path, given):
    whole, part = net(), net()
    want = losses(whole, dl.Adam(), 20)
    first = losses(part, dl.Adam(), 12)
    again = passed_through(part, tmp_path / "net.npz")
    rest = losses(again, again.training.optimizer if given == "same" else None, 8)
    assert (first + rest, again.training.updates) == (want, 20)
    assert same(again, whole)


def test_steps_and_fits_with_one_optimizer_share_its_state(tmp_path):
    model, optimizer = net(), dl.Adam()
    large, small = model.compile(SCE, optimizer, 40), model.compile(SCE, optimizer, 10)
    assert large.training is small.training is model.training
    large(X[:40], Y[:40]), small(X[40:], Y[40:])
    model.fit(X, Y, optimizer=optimizer, epochs=1, batch_size=25, verbose=0)
    assert model.training.updates == 4
    assert passed_through(model, tmp_path / "net.npz").training.updates == 4


def test_another_optimizer_starts_anew():
    model, optimizer = net(), dl.Adam()
    losses(model, optimizer, 3)
    before = model.training
    losses(model, dl.Adam(), 2)
    assert model.training is not before and (before.updates, model.training.updates) == (3, 2)


def test_state_survives_another_loss_and_accumulation(tmp_path):
    model = net()
    model.fit(X, Y, optimizer=dl.Adam(), epochs=3, batch_size=10, accumulate=2, verbose=0)
    model = passed_through(model, tmp_path / "net.npz")
    model.fit(X, Y, epochs=1, batch_size=10, verbose=0)
    model.fit(X, Y, loss=dl.SoftmaxCrossEntropy(label_smoothing=0.1), epochs=1, batch_size=10, verbose=0)
    assert model.training.updates == 3 * 3 + 5 + 5
    assert model.training.loss.label_smoothing == 0.1


def test_each_step_keeps_its_own_loss():
    model, optimizer = net(), dl.SGD(0.0)
    one, other = (model.compile(dl.SoftmaxCrossEntropy(label_smoothing=s), optimizer, 50) for s in (0.0, 0.9))
    model.layer[1].p = 0.0
    assert one(X, Y) == pytest.approx(model.evaluate(X, Y, loss=SCE)["loss"], rel=1e-5)
    assert other(X, Y) == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-5)


def test_accumulation_begins_with_no_gradients():
    models = [net(), net()]
    for model, first in zip(models, (dl.SGD(0.0), None), strict=True):
        optimizer = dl.SGD(0.1)
        if first is not None:
            optimizer.lr = 0.0  # a fit that leaves gradients behind, and the weights as they are
            model.fit(X, Y, optimizer=optimizer, epochs=1, batch_size=50, shuffle=False, verbose=0)
            optimizer.lr, model.training.draws, model.training.updates = 0.1, 0, 0
        model.fit(X, Y, optimizer=optimizer, epochs=1, batch_size=25, accumulate=2, shuffle=False, verbose=0)
    assert same(*models)


# ------------------------------------------------------------------------------------ changes between and during calls
def test_lr_that_is_set_counts_from_the_next_step_on():
    model, optimizer = net(), dl.SGD(0.5)
    step = model.compile(SCE, optimizer, 50)
    step(X, Y)
    before, plan = model.store.array.copy(), step.plan
    optimizer.lr = 0.0
    step(X, Y)
    assert (model.store.array == before).all()
    optimizer.lr = dl.schedules.Constant(0.1)
    step(X, Y)
    assert (model.store.array != before).any() and step.plan is plan
    assert optimizer.config()["lr"] == {"kind": "Constant", "lr": 0.1, "unit": "epoch"}
    with pytest.raises(ValueError, match="SGD: lr: expected a finite number >= 0, got -1"):
        optimizer.lr = -1
    assert optimizer.lr.lr == 0.1


def test_lr_that_a_callback_sets_counts_from_the_next_epoch_on():
    optimizer = dl.SGD(0.5)

    def halve(net, row):
        optimizer.lr /= 2

    history = net().fit(X, Y, optimizer=optimizer, epochs=3, callbacks=[halve], verbose=0)
    assert history["lr"] == [0.5, 0.25, 0.125]


def set_clip(model, optimizer):
    optimizer.clip_norm = 1e-3


def set_decay(model, optimizer):
    optimizer.decay_all = True


def set_momentum(model, optimizer):
    optimizer.momentum = 0.9


def set_frozen(model, optimizer):
    model.layer[0].weight.frozen = True


def set_normalisation(model, optimizer):
    model.normalize_inputs([3.0] * 4, [1.0] * 4)


def set_dropout(model, optimizer):
    model.layer[1].p = 0.0


def set_slope(model, optimizer):
    model.layer[2].slope = 0.7


def set_structure(model, optimizer):
    model.layer.layers += (dl.ELU(),)


def set_no_bias(model, optimizer):
    model.layer[0].bias = None


CHANGES = [
    set_clip, set_decay, set_momentum, set_frozen, set_normalisation, set_dropout, set_slope, set_structure, set_no_bias,
]  # fmt: skip


def optimizer_with_decay():
    return dl.SGD(0.1, weight_decay=0.5)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_after_a_step_counts_in_the_next(change):
    model, optimizer = net(), optimizer_with_decay()
    step = model.compile(SCE, optimizer, 50)
    model.predict(X), step(X, Y)
    fresh, other = net(), optimizer_with_decay()
    fresh.store.array[:] = model.store.array
    change(fresh, other)
    want = fresh.compile(SCE, other, 50)
    fresh.training.updates, fresh.training.draws = 1, 1
    change(model, optimizer)
    assert model.predict(X).tobytes() == fresh.predict(X).tobytes()
    assert [step(X, Y), step(X, Y)] == [want(X, Y), want(X, Y)]
    assert same(model, fresh)


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_callback_changes_counts_in_the_next_epoch(change):
    results = []
    for whole in (True, False):
        model, optimizer = net(), optimizer_with_decay()
        options = {"batch_size": 20, "validation": (X[:9], Y[:9]), "restore_best": False, "verbose": 0}
        call = [lambda m, row: change(m, optimizer)]  # noqa: B023
        if whole:
            history = model.fit(X, Y, optimizer=optimizer, epochs=2, callbacks=call, **options)
        else:
            model.fit(X, Y, optimizer=optimizer, epochs=1, **options)
            change(model, optimizer)
            model.plans.table.clear()
            history = model.fit(X, Y, epochs=1, **options)
        results.append((model.store.array.tobytes(), history["validation_loss"][-1]))
    assert results[0] == results[1]


def test_a_frozen_parameters_last_gradient_is_not_part_of_the_norm():
    weights = []
    for trained in (True, False):
        model = net(seed=1)
        if trained:
            losses(model, dl.SGD(0.0, clip_norm=1e-3), 1)
        model.layer[0].weight.frozen = True
        optimizer = model.training.optimizer if trained else dl.SGD(0.0, clip_norm=1e-3)
        step = model.compile(SCE, optimizer, 50)
        optimizer.lr, model.training.updates, model.training.draws = 0.5, 0, 0
        step(X, Y)
        weights.append(model.store.array.tobytes())
    assert weights[0] == weights[1]


class Smoothed(dl.SoftmaxCrossEntropy):
    """A loss of one's own, without options."""

    def options(self):
        return {}


@pytest.mark.parametrize("kind", [dl.SoftmaxCrossEntropy, Smoothed])
def test_a_loss_that_is_changed_counts_in_the_next_step(kind):
    model, loss = net(), kind()
    model.layer[1].p = 0.0
    step = model.compile(loss, dl.SGD(0.0), 50)
    before = step(X, Y)
    loss.label_smoothing = 0.9
    assert step(X, Y) == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-5) != before


def test_a_change_that_is_none_keeps_plan_and_binding():
    model = net()
    step = model.compile(SCE, dl.SGD(0.1), 50)
    step(X, Y)
    plan, bound = step.plan, step._bound
    net()  # layers of another net
    model.layer[1].p = 0.5
    step(X, Y)
    assert step.plan is plan and step._bound is bound


class Leaky(dl.Layer):
    """A layer of one's own, without options, that notes what it meets."""

    def __init__(self, slope):
        self.slope, self.calls = slope, 0

    def forward(self, x):
        self.calls, self.met = self.calls + 1, x
        return dlcore.ops.activate(x, "leaky_relu", (self.slope,))


def test_a_layer_of_ones_own_may_change_and_note_what_it_meets():
    model, wanted = (net(Leaky(slope)) for slope in (0.5, 0.1))
    step, want = (m.compile(SCE, dl.SGD(0.0), 50) for m in (model, wanted))
    step(X, Y), step(X, Y)
    before = model.predict(X)
    step(X, Y)
    bound = step._bound
    step(X, Y)
    assert step._bound is bound
    model.layer[4].slope = 0.1
    assert model.predict(X).tobytes() == wanted.predict(X).tobytes() != before.tobytes()
    wanted.training.draws = model.training.draws
    assert step(X, Y) == want(X, Y)


def test_a_predictor_stays_as_the_net_was():
    model = net()
    predictor = model.predictor()
    want = model.predict(X)
    for change in (set_slope, set_structure, set_normalisation, set_no_bias):
        change(model, None)
    for rows in (50, 49):  # of a plan that is there, and of a new one
        assert predictor.predict(X[:rows]).tobytes() == want[:rows].tobytes()


def test_the_layers_of_a_sequential_are_not_appended_to_in_place():
    with pytest.raises(AttributeError):
        net().layer.layers.append(dl.ReLU())


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "decay_all", "momentum", "lr"])
def test_what_is_set_on_an_optimizer_counts_for_a_users_arrays(name):
    value = {"decay_all": True, "lr": 0.2}.get(name, 0.5)
    start = {"momentum": 0.0, "lr": 0.1, "weight_decay": 0.1}
    changed, fresh = dl.SGD(**start), dl.SGD(**{**start, name: value})
    arrays = [np.ones(3, np.float32) for _ in range(2)]
    for i in range(3):
        if i == 1:
            arrays[1][:] = arrays[0]
            setattr(changed, name, value)
        changed.step([arrays[0]], [np.full(3, 2.0)])
        if i:
            fresh.step([arrays[1]], [np.full(3, 2.0)])
    assert arrays[0].tolist() == arrays[1].tolist()
