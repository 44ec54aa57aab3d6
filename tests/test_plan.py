# SPDX-License-Identifier: Apache-2.0
"""The planner's passes: differentiate, fuse, place, cut, and the listing that shows them."""

from dataclasses import replace

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, graph, ops
from dlcore.graph import Trace
from dlcore.plan.differentiate import differentiate
from dlcore.plan.fuse import fuse, unfused
from dlcore.plan.place import Block, in_place, place
from dlcore.plan.sections import CHUNK_ROWS, cut

ROW_MAJOR = lambda role, terms, m, n, k: ("row_major", 16)  # noqa: E731


def traced(layer, rows=4, training=True):
    trace = Trace(training)
    x = trace.value("x", (rows, layer.width()), kind="x")
    for path, p in layer.named_parameters():
        p.name = path
    return trace, x, layer(x)


def backward(layer, rows=4, wrt_input=False):
    trace, x, y = traced(layer, rows)
    dy = trace.value("dy", y.shape, kind="dy")
    trace.seeds.append((y, dy))
    wanted = {v for p, v in trace.parameters.items() if not p.state} | ({x} if wrt_input else set())
    return trace, differentiate(trace, wanted)


def names(nodes):
    return [n.op.__name__ for n in nodes]


def chains(nodes):
    return [(n.op.__name__, [s.op.stage for s in n.chain]) for n in nodes]


def test_differentiate_skips_the_first_layers_input_gradient():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.ReLU(), dl.Linear(5, 2)))
    roles = [int(n.numbers[0]) for n in trace.nodes if n.op is ops.Product]
    assert roles == [ops.ROLE_NN, ops.ROLE_NN, ops.ROLE_TN, ops.ROLE_NT, ops.ROLE_TN]


def test_differentiate_makes_the_input_gradient_when_asked():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5)), wrt_input=True)
    assert ops.ROLE_NT in [int(n.numbers[0]) for n in trace.nodes if n.op is ops.Product]


def test_differentiate_drops_a_bias_gradient_before_batch_norm():
    with_norm, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Linear(5, 2)))
    without, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.ReLU(), dl.Linear(5, 2)))
    sums = lambda t: [n.operands["out"].name for n in t.nodes if n.op is ops.Sum]  # noqa: E731
    assert "d0.bias" not in sums(with_norm)
    assert {"d0.bias", "d2.bias"} <= set(sums(without))


def test_differentiate_adds_the_gradients_of_a_value_read_twice():
    trace, _ = backward(dl.Sequential(dl.Linear(4, 4), dl.Residual(dl.Sequential(dl.Linear(4, 4), dl.Tanh()))))
    assert names(trace.nodes).count("Add") == 2  # the residual, and the sum of its two gradients


def test_fuse_moves_every_stage_of_a_plain_net_into_a_product():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.ReLU(), dl.Linear(5, 2)))
    assert chains(fuse(trace.nodes, ROW_MAJOR)) == [
        ("Product", ["affine", "activate", "store"]),
        ("Product", ["affine"]),
        ("Pointwise", ["sum"]),
        ("Product", ["store"]),
        ("Product", ["activate_grad", "store", "sum"]),
        ("Product", ["store"]),
    ]


def test_fuse_of_batch_norm_takes_moments_in_the_product_and_one_apply():
    body = dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Dropout(0.5), dl.Linear(5, 2))
    trace, _ = backward(body, rows=8)
    got = chains(fuse(trace.nodes, ROW_MAJOR))
    assert got[:3] == [
        ("Product", ["affine", "store", "moments"]),
        ("MomentsFinish", []),
        ("Pointwise", ["affine", "activate", "dropout", "store"]),
    ]
    grad = next(c for name, c in got if "activate_grad" in c)
    assert grad == ["dropout", "activate_grad", "store", "sum", "dot"]


def test_fuse_gives_predictions_of_batch_norm_to_the_products():
    body = dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Dropout(0.5), dl.Linear(5, 2))
    trace, _, _ = traced(body, rows=8, training=False)
    assert chains(fuse(trace.nodes, ROW_MAJOR)) == [
        ("MomentsFinish", []),
        ("Product", ["affine", "affine", "activate", "store"]),
        ("Product", ["affine"]),
    ]


def test_fuse_rebuilds_a_normalised_value_instead_of_storing_it():
    body = dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Linear(5, 2))
    trace, _ = backward(body, rows=8)
    grad = [s for n in fuse(trace.nodes, ROW_MAJOR) for s in n.chain if s.op is ops.ActivateGrad]
    assert [s.operands["operand"].name.split(".")[0] for s in grad] == ["z"]
    assert "operand_scale" in grad[0].operands


def test_fuse_never_joins_a_stage_whose_operand_comes_later():
    trace = Trace(training=True)
    x, y = (trace.value(n, (4, 3), kind=n) for n in ("x", "y"))
    a = trace.append(ops.Scale, trace.value("a", (4, 3)), x=x, numbers=(2.0,))
    b = trace.append(ops.Softmax, trace.value("b", (4, 3)), x=y)
    c = trace.append(ops.Activate, trace.value("c", (4, 3)), x=a, function="tanh")
    trace.append(ops.Affine2, trace.value("d", (4, 3)), x=c, operand=b, a=x, b=x, c=x)
    nodes = fuse(trace.nodes, ROW_MAJOR)
    assert chains(nodes)[0] == ("Pointwise", ["scale", "activate", "store"])
    assert chains(nodes)[-1][1][:1] == ["affine2"]


def test_fuse_never_moves_a_stage_over_an_update_of_its_operand():
    trace = Trace(training=True)
    x = trace.value("x", (1, 3), kind="x")
    total = trace.value("total", (1, 3), kind="total")
    a = trace.append(ops.Scale, trace.value("a", (1, 3)), x=x, numbers=(2.0,))
    trace.append(ops.Accumulate, trace.value("t", (1, 3)), x=x, accumulator=total)
    trace.append(ops.Add, trace.value("b", (1, 3)), x=a, operand=total)
    assert next(c for _, c in chains(fuse(trace.nodes, ROW_MAJOR))) == ["scale", "store"]


def test_fuse_never_reads_a_value_from_memory_inside_the_chain_that_makes_it():
    trace, _, _ = traced(dl.Sequential(dl.Linear(4, 4), dl.Residual(dl.Identity()), dl.ReLU()))
    assert chains(fuse(trace.nodes, ROW_MAJOR)) == [("Product", ["affine", "store"]), ("Pointwise", ["add", "activate"])]


def test_an_add_rides_in_the_later_of_its_producers():
    body = dl.Residual(dl.Sequential(dl.Linear(4, 4), dl.Tanh(), dl.Linear(4, 4)))
    trace, _, _ = traced(dl.Sequential(dl.Linear(4, 4), body))
    assert chains(fuse(trace.nodes, ROW_MAJOR)) == [
        ("Product", ["affine", "store"]),
        ("Product", ["affine", "activate", "store"]),
        ("Product", ["affine", "add"]),
    ]


def test_packs_are_made_once_for_both_directions_and_absorb_their_producer():
    strips = lambda role, terms, m, n, k: ("strips", 16)  # noqa: E731
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.ReLU(), dl.Linear(5, 2)), wrt_input=True)
    nodes = fuse(trace.nodes, strips)
    weights = [n for n in nodes if n.op is ops.Pack and n.operands["x"].kind == "parameter"]
    assert len(weights) == 2
    assert all("packed2" in n.operands and n.numbers == (0.0, 1.0) for n in weights)
    assert all(n.operands["b"].layout == "strips" for n in nodes if n.op is ops.Product)


def test_unfused_stores_every_value_and_chains_nothing():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Linear(5, 2)), rows=8)
    for node in unfused(trace.nodes, ROW_MAJOR):
        stages = [s for s in node.chain if s.op is not ops.Store]
        assert len(stages) <= 1


def test_place_never_overlaps_live_values():
    rng = np.random.default_rng(0)
    for _ in range(200):
        blocks = []
        for key in range(int(rng.integers(1, 40))):
            first = int(rng.integers(0, 30))
            blocks.append(Block(key, int(rng.integers(1, 5000)), first, first + int(rng.integers(0, 10))))
        offsets, total = place(blocks)
        for a in blocks:
            assert offsets[a.key] % 64 == 0 and offsets[a.key] + a.size <= total
            for b in blocks:
                alive = a.first <= b.last and b.first <= a.last
                apart = offsets[a.key] + a.size <= offsets[b.key] or offsets[b.key] + b.size <= offsets[a.key]
                assert a is b or not alive or apart


def test_place_reuses_memory_of_dead_values():
    _, total = place([Block(i, 1000, i, i + 1) for i in range(50)])
    assert total <= 3 * 1024


def test_a_pointwise_result_takes_the_place_of_what_only_it_reads():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Linear(5, 2)))
    nodes = fuse(trace.nodes, ROW_MAJOR)
    found = {v.name: w.name for v, w in in_place(nodes).items()}
    assert found == {"dx.1": "dz"}  # z is read again by the backward pass
    (value,) = [v for v in in_place(nodes) if v.name == "dx.1"]
    assert in_place(nodes, {value}) == {}


def test_a_value_of_another_part_keeps_its_place():
    trace, _ = backward(dl.Sequential(dl.Linear(3, 5), dl.BatchNorm(5), dl.ReLU(), dl.Linear(5, 2)))
    nodes = fuse(trace.nodes, ROW_MAJOR)
    (apply,) = [n for n in nodes if n.op is ops.Pointwise and any(s.op is ops.Affine2 for s in n.chain)]
    later = [replace(n, section="backward") if n is apply else n for n in nodes]
    assert in_place(later) == {}


def test_cut_runs_inference_through_row_chunks_without_barriers():
    layer = dl.Sequential(dl.Linear(64, 64), dl.ReLU(), dl.Linear(64, 64), dl.ReLU(), dl.Linear(64, 64))
    trace, _, _ = traced(layer, rows=20 * CHUNK_ROWS, training=False)
    nodes = fuse(trace.nodes, ROW_MAJOR)
    sections = cut(nodes, dict.fromkeys(nodes, 1))
    assert [(len(s.nodes), s.serial, s.block_rows) for s in sections] == [(3, False, CHUNK_ROWS)]


def test_cut_gives_small_work_to_one_thread():
    trace, _, _ = traced(dl.Sequential(dl.Linear(4, 4), dl.ReLU(), dl.Linear(4, 4)), rows=8)
    nodes = fuse(trace.nodes, ROW_MAJOR)
    sections = cut(nodes, dict.fromkeys(nodes, 1))
    assert [(len(s.nodes), s.serial) for s in sections] == [(2, True)]


@pytest.mark.parametrize(("width", "batch", "shared"), [(64, 32, False), (100, 64, False), (128, 64, True), (256, 256, True)])
def test_threads_share_a_step_only_where_they_gain(width, batch, shared):
    hidden = [dl.Linear(50, width), dl.BatchNorm(width), dl.ReLU(), dl.Linear(width, width), dl.ReLU()]
    net = dl.Net([*hidden, dl.Linear(width, 10)])
    plan = net.plan(batch, loss=dl.SoftmaxCrossEntropy(), optimizer=dl.Adam())
    assert any(not s.serial for _, s in plan.sections) == shared
    assert shared or len(plan.sections) == len(plan.parts)


@pytest.mark.parametrize(("cols", "pitch"), [(7, 7), (64, 64), (65, 80), (96, 96), (300, 304)])
def test_rows_of_wide_temporaries_begin_with_a_cache_line(cols, pitch):
    assert graph.BLOCK_COLUMNS == _core.COLUMN_ALIGN and graph.LINE * 4 == _core.ALIGNMENT
    trace = Trace(training=True)
    made, given = trace.value("v", (3, cols)), trace.value("x", (3, cols), kind="x")
    assert (made.pitch, made.elements, given.pitch) == (pitch, 3 * pitch, cols)


@pytest.mark.parametrize("rows", [64, 640])
def test_blocks_of_a_plan_never_overlap_while_alive(rows):
    net = dl.Net(
        [
            dl.Linear(20, 64),
            dl.BatchNorm(64),
            dl.ReLU(),
            dl.Dropout(0.2),
            dl.Linear(64, 64),
            dl.GELU(),
            dl.Linear(64, 5),
        ]
    )
    plan = net.plan(rows)
    for a in plan.blocks:
        for b in plan.blocks:
            if a is not b and a.first <= b.last and b.first <= a.last:
                x, y = plan._offsets[a.key], plan._offsets[b.key]
                assert x + a.size <= y or y + b.size <= x


def test_calls_and_bytes_at_run_time_equal_the_listing():
    for fuse_it, record in ((True, True), (False, False)):
        net = dl.Net([dl.Linear(20, 32), dl.BatchNorm(32), dl.ReLU(), dl.Dropout(0.5), dl.Linear(32, 4)], threads=2)
        step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(), 16, fuse=fuse_it, record=record)
        x, y = np.random.default_rng(0).normal(size=(16, 20)).astype(np.float32), np.arange(16) % 4
        step(x, y)
        plan = step.plan
        recordings = [r for part in plan.parts for r in plan.recordings[part]]
        assert sum(r.calls for r in recordings) == plan.calls
        assert sum(r.bytes for r in recordings) == plan.bytes
        assert f"calls {plan.calls}, bytes {plan.bytes:,d}" in str(plan)
