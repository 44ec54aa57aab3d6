# SPDX-License-Identifier: Apache-2.0
"""Bits of dropout: written where a mask is drawn, read where it is needed again, and no bit of a result depends on them."""

import numpy as np
import pytest

import dlcore as dl
import oracle
from cases import counters
from checks import rng
from dlcore import _core, plan
from instructions import assert_same_bits, pointwise, stage
from instructions import backend as backend_of

SHAPES = [(1, 1), (3, 2), (7, 8), (65, 9), (64, 16), (130, 65), (5, 1000)]


@pytest.fixture
def cpu_backend(cpu_isa, real):
    return backend_of(cpu_isa, real)


def mask_bytes(cols):
    return -(-cols // _core.MASK_ALIGN) * _core.MASK_ALIGN // 8


def drop(**given):
    return stage("dropout", numbers=[0.4], random_op=3, a=counters(seed=5, draws=7), **given)


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_are_the_mask_and_give_it_again(cpu_backend, shape):
    backend, (rows, cols) = cpu_backend, shape
    x = rng(shape).standard_normal(shape).astype(backend.real)
    bits = np.zeros((rows, mask_bytes(cols)), np.uint8)
    first = pointwise(backend, x, [drop(out=bits)])
    wanted = oracle.dropout_mask(rows, cols, 0.4, 5, 3, 7)
    assert (np.unpackbits(bits, axis=1, bitorder="little")[:, :cols] == wanted).all()
    assert_same_bits(pointwise(backend, x, [drop(operand=bits)]), first)
    assert_same_bits(pointwise(backend, x, [drop()]), first)
    flipped = pointwise(backend, np.ones_like(x), [drop(operand=~bits)])
    assert ((flipped > 0) == ~wanted).all()


def trained(**options):
    layers = [
        dl.Linear(9, 65),
        dl.BatchNorm(65),
        dl.ReLU(),
        dl.Dropout(0.5),
        dl.Linear(65, 2),
        dl.Dropout(0.25),
        dl.Linear(2, 3),
    ]
    net = dl.Net(layers, seed=2, **options)
    x, y = rng(0).standard_normal((200, 9), np.float32), np.arange(200) % 3
    net.fit(x, y, optimizer=dl.Adam(1e-2), epochs=2, batch_size=70)
    return net.store.array.copy()


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"dtype": "float64"}])
def test_training_with_kept_masks_has_the_bits_of_masks_drawn_again(monkeypatch, options):
    kept = trained(**options)
    monkeypatch.setattr(plan, "keep_masks", lambda nodes, backend: nodes)
    assert_same_bits(trained(**options), kept)


def test_a_plan_draws_each_mask_once():
    net = dl.Net([dl.Linear(9, 30), dl.Dropout(0.5), dl.Dropout(0.0), dl.Linear(30, 3)])
    text = str(net.plan(100, loss=dl.SoftmaxCrossEntropy(), optimizer=dl.SGD()))
    assert text.count("dropout(0.5, #0)->kept0[100x4]") == 1 and text.count("dropout(0.5, #0, kept0)") == 1
    assert "kept1" not in text


def test_bits_are_refused_where_they_do_not_fit(cpu_backend):
    x = np.ones((4, 20), cpu_backend.real)
    with pytest.raises(ValueError, match=r"dropout out: expected shape \(4, 4\), got \(4, 3\)"):
        pointwise(cpu_backend, x, [drop(out=np.zeros((4, 3), np.uint8))])
    with pytest.raises(ValueError, match=r"dropout operand: expected u8, got i32"):
        pointwise(cpu_backend, x, [drop(operand=np.zeros((4, 4), np.int32))])
    both = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="expected bits to read or bits to write, got both"):
        pointwise(cpu_backend, x, [drop(out=both, operand=both.copy())])
