# SPDX-License-Identifier: Apache-2.0
"""Activations in float32 over all its bit patterns, sampled: units in the last place, overflow, underflow, NaN."""

from functools import cache

import numpy as np
import pytest

import oracle
from checks import ulp_distance
from dlcore import _core
from instructions import activation, pointwise

# Units in the last place, wherever the result is a normal number.
ULPS = {
    "identity": 0.5,
    "relu": 0.5,
    "leaky_relu": 0.5,
    "elu": 2,
    "sigmoid": 2,
    "tanh": 2,
    "gelu_tanh": 4,
    "gelu": 8,
    "silu": 4,
    "softplus": 2,
}
# Derivatives are of the order of 1: units in the last place of 1.
DERIVATIVE_ULPS = 4
# Both are float32.
CONSTANTS = {"leaky_relu": (0.125 + 2.0**-20,), "elu": (1.0,)}
TINY = np.finfo(np.float32).tiny


@cache
def patterns(stride=10007):
    """Every stride-th bit pattern that is a finite float32, and more where functions bend."""
    x = np.arange(0, 2**32, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    extremes = np.float32([0, -0.0, np.finfo(np.float32).max, TINY, np.finfo(np.float32).smallest_subnormal])
    x = np.concatenate([x, np.linspace(-110, 110, 40_001, dtype=np.float32), extremes, -extremes])
    return x[None]


@cache
def truth(name, derivative):
    return oracle.ACTIVATIONS[name][derivative](patterns(), CONSTANTS.get(name, ()))


@pytest.fixture
def core(formula_isa):
    return _core.Backend(formula_isa, "float32")


def apply(core, name, x):
    return pointwise(core, x, [activation(core, name, CONSTANTS.get(name, ()))], threads=[1])


def grad(core, name, x, from_output):
    """f'(x), given x or f(x)."""
    f = activation(core, name, CONSTANTS.get(name, ()), "activate_grad", from_output, operand=x)
    return pointwise(core, np.ones_like(x), [f], threads=[1])


def test_every_activation_has_a_bound(core):
    assert set(ULPS) == set(core.activations)


def check_ulps(core, name, stride=1):
    x, want = patterns()[:, ::stride], truth(name, 0)[:, ::stride]
    got = apply(core, name, x)
    normal = np.abs(want) >= TINY
    ulps = np.where(normal, ulp_distance(got, want), 0)
    at = np.unravel_index(ulps.argmax(), ulps.shape)
    assert ulps.max() <= ULPS[name], f"{ulps.max():.3g} ulps at x = {x[at]!r}: {got[at]!r}, not {want[at]!r}"


@pytest.mark.parametrize("name", ULPS)
def test_activation_is_within_its_ulps(core, name):
    check_ulps(core, name)


def test_tanh_of_a_gpu_is_within_its_ulps(emulator):
    core = emulator.Backend("emulated", "float32")
    check_ulps(core, "tanh", stride=7)
    x = patterns()[:, ::7]
    assert (apply(core, "tanh", -x) == -apply(core, "tanh", x)).all()


@pytest.mark.parametrize("name", ULPS)
def test_activation_underflows_gradually(core, name):
    want = truth(name, 0)
    got = apply(core, name, patterns())
    tiny = np.abs(want) < TINY
    assert (ulp_distance(got, want)[tiny] <= 2).all()


@pytest.mark.parametrize("name", ULPS)
def test_activation_loses_no_finite_result(core, name):
    want = truth(name, 0)
    got = apply(core, name, patterns())
    assert np.isfinite(got[np.abs(want) <= np.finfo(np.float32).max]).all()


@pytest.mark.parametrize("name", ULPS)
def test_derivative_is_within_its_ulps(core, name):
    x, want = patterns(), truth(name, 1)
    y = apply(core, name, x)
    for from_output in (False, True)[: 1 + core.activations[name][1]]:
        got = grad(core, name, y if from_output else x, from_output)
        error = np.abs(got - want) / np.finfo(np.float32).eps
        worst = np.unravel_index(error.argmax(), error.shape)
        assert error.max() <= DERIVATIVE_ULPS, f"{error.max():.3g} at x = {x[worst]!r}: {got[worst]!r}, {want[worst]!r}"


@pytest.mark.parametrize("name", ULPS)
def test_activation_and_derivative_carry_nan(core, name):
    payloads = np.uint32([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF]).view(np.float32)[None]
    assert np.isnan(apply(core, name, payloads)).all()
    if name != "identity":
        for from_output in (False, True)[: 1 + core.activations[name][1]]:
            assert np.isnan(grad(core, name, payloads, from_output)).all()


@pytest.mark.parametrize("name", ULPS)
def test_activation_at_infinity_is_its_limit(core, name):
    left = {"identity": -np.inf, "leaky_relu": -np.inf, "elu": -1, "tanh": -1}.get(name, 0)
    right = 1 if name in ("sigmoid", "tanh") else np.inf
    got = apply(core, name, np.float32([[-np.inf, np.inf]]))
    assert got.tolist() == [[left, right]]


def test_tanh_is_odd_and_keeps_its_sign(core):
    x = patterns()[None]
    y = apply(core, "tanh", x)
    assert (np.signbit(y) == np.signbit(x)).all()
    assert (apply(core, "tanh", -x) == -y).all()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "elu", "relu", "leaky_relu"])
def test_activation_is_monotonic_to_an_ulp(core, name):
    x = np.sort(patterns())
    y = apply(core, name, x)[0]
    assert (y[1:] >= y[:-1] - np.spacing(np.abs(y[:-1]))).all()
