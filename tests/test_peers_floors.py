# SPDX-License-Identifier: Apache-2.0
"""Floors under the times of a comparison, and its figures."""

import importlib
import json

import pytest

from benches import LIMITS, compare, need, python, result
from dlcore.bench import kernels, timing

floors, peers = map(importlib.import_module, ("floors", "peers"))


# ------------------------------------------------------------------------------------------------------ floors
def test_floors_of_a_step_are_counted():
    cost = floors.train("W7_tiny")
    weights, parameters = 8 * 32, 8 * 32 + 32 + 32 * 32 + 32 + 32 + 1
    assert cost.flops == 2 * 32 * (2 * weights + 3 * 32 * 32 + 3 * 32)
    assert cost.bytes == 4 * (32 * 5 * (32 + 32 + 1) + 2 * 32 * 8 + parameters * 10)  # Adam
    assert cost.mix == kernels.Mix(3, 2)
    with_norm = floors.train("W2_mnist_batch_norm").bytes - floors.train("W1_mnist").bytes
    scales, states = 2 * 768 * (6 + 4), 535818 * 2 * (2 - 1)  # gamma and beta; Adam has a state more than momentum
    assert with_norm == 4 * (scales + states + 128 * 3 * 768)


def test_floors_of_predictions_and_ops_are_counted():
    cost = floors.infer("W7_tiny", "64")
    assert (cost.flops, cost.bytes) == (2 * 64 * (256 + 1024 + 32), 4 * (1377 + 64 * (8 + 2 * 64 + 1)))
    assert floors.ops("product_512x512x512", "forward").flops == 2 * 512**3
    assert floors.ops("layer_norm_128x512", "backward").bytes == 4 * 3 * 128 * 512
    assert (cost.mix, floors.infer("W7_tiny", "1").mix) == (kernels.Mix(1, 1), kernels.Mix(1))


def test_mixes_of_ops_are_those_of_their_arrays():
    update = floors.ops("adamw_10M", "update")  # w, m and v are read and written, g is read
    assert (update.mix, update.bytes, update.live) == (kernels.Mix(1, 0, 3), 4 * 7 * 10**7, 4 * 4 * 10**7)
    size = 4 * 4096 * 1024
    forward, backward = (floors.ops("batch_norm_relu_dropout_4096x1024", part) for part in ("forward", "backward"))
    assert (forward.mix, forward.bytes, forward.live) == (kernels.Mix(2, 1), 3 * size, 2 * size)  # x twice, y
    assert (backward.mix, backward.bytes, backward.live) == (kernels.Mix(4, 1), 5 * size, 3 * size)  # x and dy twice, dx
    copied = [floors.ops("layer_norm_4096x1024", "forward"), floors.ops("cross_entropy_4096x1000", "both")]
    assert {work.mix for work in copied} == {kernels.Mix(1, 1)} and copied[0].bytes == copied[0].live == 2 * size


@pytest.mark.parametrize("action", ["train", "infer", "ops"])
def test_every_row_has_a_floor(action):
    for _, item in peers.items(action, None):
        for part in compare.parts(action, item):
            floor = floors.Floor(floors.work(action, item, part), LIMITS)
            assert 0 < floor(0) < 1e3 and floor.bound in ("flops", "bytes") and not floor.measured


def test_the_floor_is_the_longer_time_and_says_what_binds():
    for flops, moved, seconds, bound in ((2e9, 10, 2.0, "flops"), (1.0, 10**9, 1.0, "bytes")):
        floor = floors.Floor(floors.Work(flops, moved, kernels.Mix(), 1 << 21), LIMITS)
        assert (floor(0), floor.bound) == (seconds, bound)


def test_bytes_take_the_time_of_a_probe_of_their_mix_and_size(monkeypatch):
    class Streams:
        bytes = 100

        def __init__(self, mix, live):
            made.append((mix, live))

        def run(self, times):
            clock[0] += 0.01 * slow * times

    made, clock, slow, timer = [], [0.0], 1, timing.Timer
    monkeypatch.setattr(floors.timing, "Timer", lambda run: timer(run, lambda: clock[0]))
    floor = floors.Floor(floors.Work(1e6, 250, kernels.Mix(1, 0, 3), 77), LIMITS, Streams)
    assert (made, floor.bound, floor.measured) == ([(kernels.Mix(1, 0, 3), 77)], "bytes", True)
    assert floor(0.1) == pytest.approx(0.025)
    slow = 2
    assert floor(0.1) == pytest.approx(0.05)  # a round in which the machine gives half


# ----------------------------------------------------------------------------------------------------- figures
def test_figures_are_drawn_from_results(tmp_path):
    need("matplotlib")
    (tmp_path / "peers.json").write_text(json.dumps(result()))
    done = python("figure.py", tmp_path / "peers.json")
    wanted = [tmp_path / f"peers{suffix}.png" for suffix in ("", "_bf16", "_floor")]
    assert done.stdout.split() == list(map(str, wanted)), done.stderr
    assert all(path.stat().st_size > 1000 for path in wanted)


def test_many_rows_stand_in_columns_of_one_height():
    need("matplotlib")
    figure = importlib.import_module("figure")
    columns = figure._columns({f"row {i}": [{}] * 8 for i in range(18)})
    assert [len(names) for names in columns] == [6, 6, 6]
    assert [n for names in columns for n in names] == [f"row {i}" for i in range(18)]
    assert figure._columns({"row": [{}] * 3}) == [["row"]]
