# SPDX-License-Identifier: Apache-2.0
"""Depth first: which runs of nodes it takes, what it keeps of them, and that no bit depends on it."""

import numpy as np
import pytest

import dlcore as dl
from dlcore.graph import Node
from dlcore.ops import ROLE_TN, Product
from dlcore.plan import depth_first
from dlcore.train.evaluation import prediction_plan
from instructions import assert_same_bits


def narrow(width=32, outputs=3):
    return [
        dl.Linear(5, width), dl.GELU(), dl.Dropout(0.2), dl.Linear(width, width), dl.LayerNorm(width), dl.Tanh(),
        dl.Residual(dl.Sequential(dl.Linear(width, width), dl.ReLU())), dl.Linear(width, outputs),
    ]  # fmt: skip


def batch(rows, outputs=3):
    rng = np.random.default_rng(rows)
    return rng.normal(size=(rows, 5)).astype(np.float32), rng.integers(0, outputs, size=rows)


def trained(rows, threads=1, steps=3, dtype="float32", **options):
    net = dl.Net(narrow(), seed=4, threads=threads, dtype=dtype)
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), batch_size=rows, **options)
    x, y = batch(rows)
    losses = [step(x, y) for _ in range(steps)]
    return losses, list(net.parameters.values()), step.plan


def blocks(plan):
    return [s for _, s in plan.sections if s.local]


@pytest.mark.parametrize("rows", [1024, 1500, 5003])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_depth_first_has_the_bits_of_layer_by_layer(monkeypatch, rows, dtype):
    losses, parameters, plan = trained(rows, fuse=False, record=False, dtype=dtype)
    assert not blocks(plan)
    monkeypatch.setattr(depth_first, "WORTH_BYTES", 0)
    monkeypatch.setattr(depth_first, "LEAST_UNITS", 1)
    for threads in (1, 2, 3):
        for fuse in (True, False):
            found, values, plan = trained(rows, threads, fuse=fuse, dtype=dtype)
            assert blocks(plan) and found == losses
            for value, expected in zip(values, parameters, strict=True):
                assert_same_bits(value, expected)


@pytest.mark.parametrize("rows", [65, 1000, 4097])
def test_prediction_depth_first_has_the_bits_of_layer_by_layer(monkeypatch, rows):
    x, _ = batch(rows)
    expected = dl.Net(narrow(), seed=4).predict(x)
    monkeypatch.setattr(depth_first, "WORTH_BYTES", 0)
    monkeypatch.setattr(depth_first, "LEAST_UNITS", 1)
    assert_same_bits(dl.Net(narrow(), seed=4, threads=2).predict(x), expected)


@pytest.mark.parametrize("rows", [460, 600, 960])
def test_a_product_split_by_its_depth_stays_outside(monkeypatch, rows):
    """Its items are not chunks of rows: 1024 deep, with so few columns that each chunk has two."""
    x = np.random.default_rng(rows).normal(size=(rows, 8)).astype(np.float32)

    def outputs():
        net = dl.Net([dl.Linear(8, 1024), dl.ReLU(), dl.Linear(1024, 1024), dl.ReLU(), dl.Linear(1024, 10)], threads=2)
        plan = prediction_plan(net, x, softmax=False)
        return net.predict(x), [len(s.nodes) for s in blocks(plan)]

    found, lengths = outputs()
    assert lengths == [3]
    monkeypatch.setattr(depth_first, "WORTH_BYTES", 1 << 40)
    expected, lengths = outputs()
    assert lengths == []
    assert_same_bits(found, expected)


def test_a_whole_training_step_without_batch_statistics_is_one_section():
    *_, plan = trained(32768)
    (section,) = blocks(plan)
    gradients = [s for part, s in plan.sections if part == "gradients"]
    outside = {n.op.__name__ for s in gradients if s is not section for n in s.nodes}
    assert outside <= {"Pack", "Tick"}
    assert section.block_rows * section.row_bytes <= 1 << 20
    assert plan.scratch_bytes < 32768 * 32 * 4


def test_batch_statistics_end_a_section(monkeypatch):
    monkeypatch.setattr(depth_first, "WORTH_BYTES", 0)
    monkeypatch.setattr(depth_first, "LEAST_UNITS", 1)
    net = dl.Net([dl.Linear(5, 32), dl.BatchNorm(32), dl.ReLU(), dl.Linear(32, 32), dl.ReLU(), dl.Linear(32, 3)], seed=4)
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.SGD(0.01), batch_size=2048)
    step(*batch(2048))
    found = blocks(step.plan)
    names = [[n.op.__name__ for n in s.nodes] for s in found]
    assert len(found) >= 2 and not any("MomentsFinish" in n or "NormBackwardFinish" in n for n in names)


@pytest.mark.parametrize(("width", "taken"), [(500, True), (2500, False)])
def test_rows_too_wide_for_a_block_are_left_layer_by_layer(width, taken):
    net = dl.Net([dl.Linear(4, width), dl.ReLU(), dl.Linear(width, width), dl.ReLU(), dl.Linear(width, 40)])
    assert bool(blocks(prediction_plan(net, np.ones((1024, 4), np.float32), softmax=False))) == taken


def test_few_units_are_left_layer_by_layer(monkeypatch):
    monkeypatch.setattr(depth_first, "WORTH_BYTES", 0)
    *_, plan = trained(7 * 512)
    assert not blocks(plan)


def test_small_batches_are_left_layer_by_layer():
    *_, plan = trained(512)
    assert not blocks(plan)


def test_a_wide_weight_gradient_stays_outside():
    net = dl.Net([dl.Linear(512, 512), dl.ReLU(), dl.Linear(512, 512)], seed=0)
    step = net.compile(dl.MeanSquaredError(), dl.SGD(0.01), batch_size=2048)
    x = np.ones((2048, 512), np.float32)
    step(x, x)
    gradients = [n for s in blocks(step.plan) for n in s.nodes if n.op is Product and n.numbers[0] == ROLE_TN]
    assert not gradients


def test_the_listing_says_what_is_kept():
    *_, plan = trained(32768)
    assert f"blocks of {blocks(plan)[0].block_rows} rows, {blocks(plan)[0].row_bytes:,d} B of a row kept" in str(plan)


def test_planning_looks_at_operands_as_often_as_there_are_layers(monkeypatch):
    counts, marked = [], Node._marked

    def counted(node, mark):
        counts[-1] += 1
        return marked(node, mark)

    monkeypatch.setattr(Node, "_marked", counted)
    for layers in (20, 40):
        counts.append(0)
        dl.Net([layer for _ in range(layers) for layer in (dl.Linear(5, 5), dl.ReLU())]).plan(64)
    assert 0 < counts[1] < 2.1 * counts[0]
