# SPDX-License-Identifier: Apache-2.0
"""The oracle against torch, both in float64."""

import numpy as np
import pytest

import oracle
from checks import rng

CONSTANTS = {"leaky_relu": (0.2,), "elu": (1.7,)}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def assert_agrees(got, want):
    """Two float64 computations of one formula: 1e-12 of the largest element."""
    got, want = np.asarray(got), np.asarray(want.detach())
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


def layer_case(seed, rows=7, cols=5):
    r = rng(seed)
    x, dy = r.normal(size=(2, rows, cols))
    gamma, beta = r.normal(size=(2, cols))
    return x, dy, gamma, beta


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_matches_torch(torch, name):
    functional = torch.nn.functional
    peers = {
        "identity": lambda x: x * 1,
        "relu": torch.relu,
        "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
        "elu": lambda x: functional.elu(x, 1.7),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "gelu": functional.gelu,
        "silu": functional.silu,
        "softplus": lambda x: functional.softplus(x, threshold=700),
    }
    f, df = oracle.ACTIVATIONS[name]
    x = torch.linspace(-40, 40, 801, dtype=torch.float64, requires_grad=True)
    y = peers[name](x)
    y.sum().backward()
    c = CONSTANTS.get(name, ())
    assert_agrees(f(x.detach().numpy(), c), y)
    assert_agrees(df(x.detach().numpy(), c), x.grad)


def leaves(torch, *arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_matches_torch(torch, training):
    x, dy, gamma, beta = layer_case(6, rows=37, cols=11)
    mean, var = rng(7).uniform(0.5, 2, size=(2, 11))
    tx, tg, tb = leaves(torch, x, gamma, beta)
    tm, tv = torch.tensor(mean), torch.tensor(var)
    want = torch.nn.functional.batch_norm(tx, tm, tv, tg, tb, training, momentum=0.3, eps=1e-3)
    want.backward(torch.tensor(dy))
    if training:
        y, _, _, new_mean, new_var = oracle.batch_norm(x, gamma, beta, mean, var, 0.3, 1e-3)
        gradients = oracle.batch_norm_backward(dy, x, gamma, 1e-3)
        assert_agrees(new_mean, tm)
        assert_agrees(new_var, tv)
    else:
        y = oracle.batch_norm_evaluation(x, gamma, beta, mean, var, 1e-3)
        gradients = oracle.batch_norm_evaluation_backward(dy, x, gamma, mean, var, 1e-3)
    assert_agrees(y, want)
    for got, leaf in zip(gradients, (tx, tg, tb), strict=True):
        assert_agrees(got, leaf.grad)


def test_layer_norm_matches_torch(torch):
    x, dy, gamma, beta = layer_case(8, rows=37, cols=11)
    tx, tg, tb = leaves(torch, x, gamma, beta)
    want = torch.nn.functional.layer_norm(tx, (11,), tg, tb, 1e-4)
    want.backward(torch.tensor(dy))
    y, mean, rstd = oracle.layer_norm(x, gamma, beta, 1e-4)
    assert_agrees(y, want)
    assert_agrees((x - mean) * rstd * gamma + beta, want)
    for got, leaf in zip(oracle.layer_norm_backward(dy, x, gamma, 1e-4), (tx, tg, tb), strict=True):
        assert_agrees(got, leaf.grad)


@pytest.mark.parametrize("kind", ["indices", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_cross_entropy_matches_torch(torch, kind, smoothing, weighted):
    r = rng(11)
    (x,) = leaves(torch, r.normal(scale=4, size=(29, 6)))
    target = r.integers(0, 6, 29) if kind == "indices" else r.dirichlet(np.ones(6), size=29)
    class_weight = r.uniform(0.5, 2, size=6) if weighted else None
    peer = torch.nn.CrossEntropyLoss(
        weight=None if class_weight is None else torch.tensor(class_weight), label_smoothing=smoothing
    )
    want = peer(x, torch.tensor(target))
    want.backward()
    got = oracle.softmax_cross_entropy(x.detach(), target, class_weight=class_weight, smoothing=smoothing)
    assert_agrees(got.loss_sum / got.weight_sum, want)
    assert_agrees(got.dprediction / got.weight_sum, x.grad)
    label = target if kind == "indices" else target.argmax(axis=1)
    assert got.correct == (x.detach().numpy().argmax(axis=1) == label).sum()


def test_element_losses_match_torch(torch):
    r = rng(14)
    functional = torch.nn.functional
    target = r.uniform(size=(17, 4))
    (x,) = leaves(torch, r.normal(scale=4, size=(17, 4)))
    for got, want in (
        (oracle.squared_error(x.detach(), target), functional.mse_loss(x, torch.tensor(target))),
        (
            oracle.binary_cross_entropy(x.detach(), target),
            functional.binary_cross_entropy_with_logits(x, torch.tensor(target)),
        ),
    ):
        x.grad = None
        want.backward()
        assert_agrees(got.loss_sum / got.weight_sum, want)
        assert_agrees(got.dprediction / got.weight_sum, x.grad)
    got = oracle.binary_cross_entropy(x.detach(), target, class_weight=(1.0, 2.5))
    pos_weight = torch.tensor(2.5)
    assert_agrees(
        got.loss_sum / 17,
        functional.binary_cross_entropy_with_logits(x, torch.tensor(target), pos_weight=pos_weight),
    )


def peer_optimizer(torch, name, parameters, l2):
    optim = torch.optim
    return {
        "sgd": lambda: optim.SGD(parameters, 0.05, weight_decay=l2),
        "momentum": lambda: optim.SGD(parameters, 0.05, momentum=0.8, weight_decay=l2),
        "nesterov": lambda: optim.SGD(parameters, 0.05, momentum=0.8, weight_decay=l2, nesterov=True),
        "adagrad": lambda: optim.Adagrad(parameters, 0.05, weight_decay=l2),
        "rmsprop": lambda: optim.RMSprop(parameters, 0.05, weight_decay=l2),
        "adam": lambda: optim.Adam(parameters, 0.05, weight_decay=l2),
        "adamw": lambda: optim.AdamW(parameters, 0.05),
    }[name]()


@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("name", oracle.RULES)
def test_rule_matches_torch_for_25_steps(torch, name, l2):
    r = rng(15)
    start, gradients = r.normal(size=30), r.normal(size=(25, 30))
    (parameter,) = leaves(torch, start)
    peer = peer_optimizer(torch, name, [parameter], l2)
    hyper = {"momentum": 0.8} if name in ("momentum", "nesterov") else {}
    hyper |= {} if name == "adamw" else {"l2": l2}
    w, state = start, {}
    for g in gradients:
        parameter.grad = torch.tensor(g)
        peer.step()
        w = oracle.RULES[name](w, g, state, lr=0.05, **hyper)
        assert_agrees(w, parameter)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_norm_clipping_matches_torch(torch, max_norm):
    r = rng(16)
    gradients = [r.normal(size=(4, 3)), r.normal(size=5)]
    parameters = leaves(torch, *gradients)
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped, got = oracle.clip_by_norm(gradients, max_norm)
    assert_agrees(got, norm)
    scale, mean_norm = oracle.grad_scale(8.0, [8 * g for g in gradients], max_norm)
    assert_agrees(mean_norm, norm)
    for p, g, c in zip(parameters, gradients, clipped, strict=True):
        assert_agrees(c, p.grad)
        assert_agrees(scale * 8 * g, p.grad)


SCHEDULES = {
    "constant": ((), lambda s, o: s.LambdaLR(o, lambda t: 1.0)),
    "step": ((7,), lambda s, o: s.StepLR(o, 7, 0.5)),
    "exponential": ((0.9,), lambda s, o: s.ExponentialLR(o, 0.9)),
    "inverse": ((0.1,), lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + 0.1 * t))),
    "cosine": ((30, 0, 0.01), lambda s, o: s.CosineAnnealingLR(o, 30, 0.01)),
}


@pytest.mark.parametrize("name", oracle.SCHEDULES)
def test_schedule_matches_torch(torch, name):
    numbers, make = SCHEDULES[name]
    rate = oracle.SCHEDULES[name](0.4, *numbers)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.4)
    peer = make(torch.optim.lr_scheduler, optimizer)
    for t in range(30):
        assert rate(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        peer.step()
